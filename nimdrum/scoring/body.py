"""The request body for one row. Pure."""

import json
from dataclasses import dataclass
from typing import Any

from nimdrum.settings import Settings


@dataclass(frozen=True)
class Sampling:
    """What all rows of a call have in common."""

    model: str
    system_prompt: str | None
    max_tokens: int
    temperature: float | None
    n: int


def sampling_of(settings: Settings, model: str) -> Sampling:
    return Sampling(model, settings.system_prompt, settings.max_tokens, settings.temperature, settings.n)


def chat_body(sampling: Sampling, prompt: str, n: int) -> bytes:
    """An OpenAI chat completion request as JSON.

    Only fields that are set: NIM 1.x refuses unknown ones, and an unset one is the engine's own default.
    `max_tokens` and not its successor, which 1.x refuses too.
    """
    messages = [{"role": "user", "content": prompt}]
    if sampling.system_prompt:
        messages.insert(0, {"role": "system", "content": sampling.system_prompt})
    body: dict[str, Any] = {"model": sampling.model, "messages": messages, "max_tokens": sampling.max_tokens}
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if n > 1:
        body["n"] = n
    return json.dumps(body).encode()
