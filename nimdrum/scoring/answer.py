"""What the engine's answer to one row means: a completion, a failure of this row, or a reason to send it again.

Pure: status, headers and body in, a value out. Decides by status and error type, never by a sentence, because the
sentences change between engines and versions; the one exception is NIM 1.x's dead engine, which has no other mark.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RETRY_STATUSES = frozenset((408, 429, 500, 502, 503, 504))
ENGINE_DEAD = ("engine loop is not running", "enginedeaderror", "engine process failed")
SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Completion:
    """The engine's answer. `texts` has one entry for each choice; `prompt_tokens` and the like are None if not told."""

    texts: tuple[str, ...]
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    blank_reason: str | None = None
    """Why the first choice has no text, when it has none."""


@dataclass(frozen=True)
class RowFailure:
    """This row failed and will not be sent again. `kind` is one word for filters, `message` is for a person."""

    kind: str
    message: str
    status: int
    """HTTP status for a caller who wants the request to fail: 4xx is the row's fault, 5xx the engine's."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True)
class TryAgain:
    """Sending the row again may help. `after_sec` is what the engine asked for (Retry-After)."""

    failure: RowFailure
    after_sec: float | None = None
    engine_dead: bool = False


Answer = Completion | RowFailure | TryAgain


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Classify one HTTP answer of the engine. Any body is understood, also none, HTML and half a JSON."""
    if status == 200:
        return _completion(body)
    error = _error(body)
    message = error.message or f"the engine answered HTTP {status}"
    if status in RETRY_STATUSES:
        dead = status == 500 and any(mark in message.lower() for mark in ENGINE_DEAD)
        kind = "rate_limited" if status == 429 else "engine_error"
        failure = RowFailure(kind, message, 429 if status == 429 else 502)
        return TryAgain(failure, _retry_after(headers), engine_dead=dead)
    kind = "too_long" if error.too_long or status == 413 else "refused"
    return RowFailure(kind, message, status if 400 <= status < 500 else 502)


def _completion(body: bytes) -> Answer:
    try:
        document = json.loads(body)
        choices = document["choices"]
        texts = tuple(clean(choice["message"].get("content") or "") for choice in choices)
        reason = choices[0].get("finish_reason")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        seen = body[:80].decode("utf-8", "replace")
        failure = RowFailure(
            "bad_answer", f"the engine's answer is no chat completion ({type(error).__name__}): {seen}", 502
        )
        return TryAgain(failure)
    usage = document.get("usage") or {}
    blank = None
    if not texts[0].strip():
        blank = f"the engine returned no text (finish_reason={reason})"
    return Completion(texts, reason, usage.get("prompt_tokens"), usage.get("completion_tokens"), blank)


def clean(text: str) -> str:
    """`text` without lone surrogates, one of which would lose DRUM the whole batch when it writes UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True)
class _Error:
    message: str
    too_long: bool = False


def _error(body: bytes) -> _Error:
    """The error in `body`: nested (vLLM, NIM 2.x, llama.cpp), flat (NIM 1.x), or `detail` (FastAPI)."""
    text = body[:1_000_000].decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except ValueError:
        return _Error(_plain(text))
    if not isinstance(document, dict):
        return _Error(_plain(text))
    nested = document.get("error")
    fields: dict[str, Any] = nested if isinstance(nested, dict) else document
    message = fields.get("message") or fields.get("detail") or nested or text
    return _Error(
        clean(str(message))[:SHOWN_CHARACTERS],
        # vLLM says it with `param`, llama.cpp with `type`.
        too_long=fields.get("param") in ("input_tokens", "input_text")
        or fields.get("type") == "exceed_context_size_error",
    )


def _plain(text: str) -> str:
    """Something readable from a body that is no JSON; of an HTML page (a proxy's) nothing."""
    text = " ".join(text.split())
    return "" if text.startswith("<") else text[:SHOWN_CHARACTERS]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a Retry-After header; its date form is not used by model servers and is ignored."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
