"""The request body for one row. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nimdrum.base.fields import body_of, with_fields
from nimdrum.base.settings import Settings
from nimdrum.engines.wire import with_system_prompt

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What all rows of a call have in common: the settings of these names, and the model."""

    model: str
    system_prompt: str | None
    n: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of `nimdrum.base.fields.FIELDS`; None is as good as left out."""


@dataclass(frozen=True, slots=True)
class Own:
    """What one row sets for itself; None is what all rows have."""

    system_prompt: str | None = None
    model: str | None = None
    messages: tuple[Message, ...] | None = None
    """A whole conversation in the place of the prompt."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """None takes away what all rows have."""


NOTHING_OWN = Own()


def sampling_of(settings: Settings, model: str) -> Sampling:
    return Sampling(model, settings.system_prompt, settings.n, settings.fields)


def with_own(sampling: Sampling, own: Own) -> Sampling:
    """`sampling` as this row wants it. Raises RecursionError."""
    if own is NOTHING_OWN:
        return sampling
    prompt = sampling.system_prompt if own.system_prompt is None else own.system_prompt
    fields = with_fields(sampling.fields, own.fields)
    return replace(sampling, model=own.model or sampling.model, system_prompt=prompt, fields=fields)


def chat_body(sampling: Sampling, prompt: str, n: int, conversation: Sequence[Message] | None = None) -> bytes:
    """An OpenAI chat completion request as JSON, with `conversation` in the place of the prompt if there is one.

    Only fields that are set: NIM 1.x refuses unknown ones, and an unset one is the engine's own default.
    `max_tokens` and not its successor, which 1.x refuses too. Raises RecursionError.
    """
    asked = [{"role": "user", "content": prompt}] if conversation is None else conversation
    body: dict[str, Any] = {"model": sampling.model, "messages": with_system_prompt(asked, sampling.system_prompt)}
    body |= body_of(sampling.fields)
    if n > 1:
        body["n"] = n
    return json.dumps(body).encode()


def whole_body(sampling: Sampling, prompt: str, own: Own = NOTHING_OWN) -> bytes:
    """The request for all choices of a row at once, which is the one that is sent wherever the engine knows `n`. Raises
    RecursionError."""
    asked = with_own(sampling, own)
    return chat_body(asked, prompt, asked.n, own.messages)
