"""The request body for one row. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from nimdrum.base.settings import Settings
from nimdrum.engines.wire import with_system_prompt

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What all rows of a call have in common: the settings of these names, and the model.

    All but model, system prompt and n are fields of the request under the same name, left out when they are None.
    """

    model: str
    system_prompt: str | None
    max_tokens: int | None
    temperature: float | None
    n: int
    response_format: dict[str, Any] | None = None


REQUEST_FIELDS = [field.name for field in fields(Sampling) if field.name not in ("model", "system_prompt", "n")]


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
    return Sampling(model, **{field.name: getattr(settings, field.name) for field in fields(Sampling)[1:]})


def with_own(sampling: Sampling, own: Own) -> Sampling:
    """`sampling` as this row wants it."""
    if own is NOTHING_OWN:
        return sampling
    given = {name: getattr(own, name) for name in ("system_prompt", "max_tokens", "temperature")}
    return replace(sampling, **{name: value for name, value in given.items() if value is not None})


def chat_body(sampling: Sampling, prompt: str, n: int, conversation: Sequence[Message] | None = None) -> bytes:
    """An OpenAI chat completion request as JSON, with `conversation` in the place of the prompt if there is one.

    Only fields that are set: NIM 1.x refuses unknown ones, and an unset one is the engine's own default.
    `max_tokens` and not its successor, which 1.x refuses too.
    """
    asked = [{"role": "user", "content": prompt}] if conversation is None else conversation
    body: dict[str, Any] = {"model": sampling.model, "messages": with_system_prompt(asked, sampling.system_prompt)}
    body |= {name: value for name in REQUEST_FIELDS if (value := getattr(sampling, name)) is not None}
    if n > 1:
        body["n"] = n
    return json.dumps(body).encode()
