"""The request body for one row. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nimdrum.base.settings import Settings
from nimdrum.engines.wire import with_system_prompt

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What all rows of a call have in common."""

    model: str
    system_prompt: str | None
    max_tokens: int
    temperature: float | None
    n: int
    response_format: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """What one row sets for itself; None is what all rows have."""

    system_prompt: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    messages: tuple[Message, ...] | None = None
    """A whole conversation in the place of the prompt."""


NOTHING_OWN = Own()


def sampling_of(settings: Settings, model: str) -> Sampling:
    return Sampling(
        model, settings.system_prompt, settings.max_tokens, settings.temperature, settings.n, settings.response_format
    )


def with_own(sampling: Sampling, own: Own) -> Sampling:
    """`sampling` as this row wants it."""
    if own is NOTHING_OWN:
        return sampling
    return replace(
        sampling,
        system_prompt=sampling.system_prompt if own.system_prompt is None else own.system_prompt,
        max_tokens=sampling.max_tokens if own.max_tokens is None else own.max_tokens,
        temperature=sampling.temperature if own.temperature is None else own.temperature,
    )


def chat_body(sampling: Sampling, prompt: str, n: int, conversation: Sequence[Message] | None = None) -> bytes:
    """An OpenAI chat completion request as JSON, with `conversation` in the place of the prompt if there is one.

    Only fields that are set: NIM 1.x refuses unknown ones, and an unset one is the engine's own default.
    `max_tokens` and not its successor, which 1.x refuses too.
    """
    asked = [{"role": "user", "content": prompt}] if conversation is None else conversation
    messages = with_system_prompt(asked, sampling.system_prompt)
    body: dict[str, Any] = {"model": sampling.model, "messages": messages, "max_tokens": sampling.max_tokens}
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if n > 1:
        body["n"] = n
    if sampling.response_format is not None:
        body["response_format"] = sampling.response_format
    return json.dumps(body).encode()
