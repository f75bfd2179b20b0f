"""What vLLM says of the values of sampling parameters that cannot be. Pure; tests/contract holds it against vLLM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JSON_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Wrong:
    """A value that is refused: the sentence, and the parameter that vLLM names with it."""

    message: str
    param: str | None


def wrong_value(body: dict[str, Any]) -> Wrong | None:
    """The first value that is refused."""
    temperature, top_p = _number(body, "temperature"), _number(body, "top_p")
    if temperature is not None and temperature > 2:
        return Wrong(f"temperature must be in [0, 2], got {temperature}.", "temperature")
    if top_p is not None and not 0 < top_p <= 1:
        return Wrong(f"top_p must be in (0, 1], got {top_p}.", "top_p")
    for name in ("presence_penalty", "frequency_penalty"):
        penalty = _number(body, name)
        if penalty is not None and not -2 <= penalty <= 2:
            return Wrong(f"{name} must be in [-2, 2], got {penalty}.", None)
    top_k = _number(body, "top_k")
    if top_k is not None and top_k < -1:
        return Wrong(f"top_k must be 0 (disable), or at least 1, got {top_k:g}.", None)
    if isinstance(body.get("stop"), list) and "" in body["stop"]:
        return Wrong("stop cannot contain an empty string.", None)
    top_logprobs = _number(body, "top_logprobs")
    if top_logprobs and not body.get("logprobs"):
        return Wrong("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    if top_logprobs and top_logprobs > MOST_LOGPROBS:
        message = f"Requested sample logprobs of {top_logprobs:g}, which is greater than max allowed: {MOST_LOGPROBS}"
        return Wrong(message, "logprobs")
    if body.get("stream_options") and not body.get("stream"):
        return Wrong("Stream options can only be defined when `stream=True`.", "stream_options")
    return None


def _number(body: dict[str, Any], name: str) -> float | None:
    value = body.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
