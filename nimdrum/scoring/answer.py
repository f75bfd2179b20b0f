"""What the engine's answer to one row means: a completion, a failure of this row, or a reason to send it again.

Pure: status, headers and body in, a value out. Decides by status and error type, never by a sentence, because the
sentences change between engines and versions.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nimdrum.engines.wire import MOST_TOKENS, clean, read_error

RETRY_STATUSES = frozenset((408, 429, *range(500, 600)))
TOO_LARGE = 413
MEGABYTE = 1 << 20
OVERLOAD_STATUSES = RETRY_STATUSES - {500, 501}
THINK, THOUGHT = "<think>", "</think>"
REASONING_FIELDS = ("reasoning_content", "reasoning")


@dataclass(frozen=True, slots=True)
class Completion:
    """The engine's answer. `texts` has one entry for each choice; `prompt_tokens` and the like are None if not told."""

    texts: tuple[str, ...]
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    blank_reason: str | None = None
    """Why the first choice has no text, when it has none."""
    reasoning: str = ""
    """What the model thought before the first choice, where that is told apart from the answer."""
    latency_sec: float | None = field(default=None, compare=False)
    """From the first request for the row to its last answer, waiting between tries included."""
    attempts: int = field(default=0, compare=False)
    """Requests that were sent for the row."""
    tool_calls: str = ""
    """The tools that the first choice calls, as JSON; empty where it calls none."""
    refusal: str = ""
    """With which words the model declined to answer."""
    logprobs: str = ""
    """Of the first choice's tokens, as JSON, where they were asked for."""
    incomplete: str = ""
    """Why further choices are missing that were asked for one by one, as a row error; empty when none is."""


@dataclass(frozen=True, slots=True)
class RowFailure:
    """This row failed and will not be sent again. `kind` is one word for filters, `message` is for a person."""

    kind: str
    message: str
    status: int
    """HTTP status for a caller who wants the request to fail: 4xx is the row's fault, 5xx the engine's."""
    latency_sec: float | None = field(default=None, compare=False)
    attempts: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True)
class TryAgain:
    """Sending the row again may help. `after_sec` is what the engine asked for (Retry-After)."""

    failure: RowFailure
    after_sec: float | None = None
    engine_dead: bool = False
    overload: bool = field(default=False, compare=False)
    """The engine, or what stands before it, has more to do than it can."""


Answer = Completion | RowFailure | TryAgain


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, split_reasoning: bool = False, sent_bytes: int = 0
) -> Answer:
    """Classify one HTTP answer of the engine to a request of `sent_bytes`. Any body is understood, also none, HTML and
    half a JSON.

    With `split_reasoning` what the model thought is kept apart from its answer: the engine's own field for it, or
    an inline <think> block.
    """
    if status == 200:
        return _completion(body, split_reasoning)
    error = read_error(status, body)
    if status in RETRY_STATUSES:
        kind = "rate_limited" if status == 429 else "engine_error"
        failure = RowFailure(kind, error.message, 429 if status == 429 else 502)
        return TryAgain(failure, _retry_after(headers), engine_dead=error.dead, overload=status in OVERLOAD_STATUSES)
    if status == TOO_LARGE:
        size = f"the request has {sent_bytes / MEGABYTE:.1f} MB, more than the engine or a proxy before it takes"
        return RowFailure("too_large", f"{size}: {error.message}", status)
    kind = "too_long" if error.too_long else "unknown_model" if error.no_such_model else "refused"
    return RowFailure(kind, error.message, status if 400 <= status < 500 else 502)


def _completion(body: bytes, split_reasoning: bool) -> Answer:
    try:
        document = json.loads(body)
        choices = document["choices"]
        messages = [choice["message"] for choice in choices]
        texts = [clean(message.get("content") or "") for message in messages]
        reason = choices[0].get("finish_reason")
        told = _reasoning_field(messages[0])
        calls, logprobs = _as_json(messages[0].get("tool_calls"), list), _as_json(choices[0].get("logprobs"), dict)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        seen = body[:80].decode("utf-8", "replace")
        failure = RowFailure(
            "bad_answer", f"the engine's answer is no chat completion ({type(error).__name__}): {seen}", 502
        )
        return TryAgain(failure)
    reasoning = told
    if split_reasoning:
        parted = [split_thinking(text) for text in texts]
        texts = [answer for answer, _ in parted]
        reasoning = told or parted[0][1]
    reason = sys.intern(clean(reason)) if isinstance(reason, str) else None
    usage = document.get("usage")
    prompt_tokens, completion_tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    refusal = messages[0].get("refusal")
    is_blank = not texts[0].strip() and not calls
    return Completion(
        tuple(texts),
        reason,
        prompt_tokens,
        completion_tokens,
        _blank_reason(reason, reasoning, completion_tokens) if is_blank else None,
        reasoning if split_reasoning else "",
        tool_calls=calls,
        refusal=clean(refusal) if isinstance(refusal, str) else "",
        logprobs=logprobs,
    )


def _as_json(value: object, kind: type) -> str:
    return clean(json.dumps(value, ensure_ascii=False)) if value and isinstance(value, kind) else ""


def split_thinking(text: str) -> tuple[str, str]:
    """The answer and the thinking of `text`, which may begin with a <think> block.

    Some chat templates write the opening mark into the prompt, so that only the closing one is in the answer. A
    block that was never closed is all thinking: the answer was cut before it began.
    """
    start = text.lstrip()
    opened = start.startswith(THINK)
    thinking, closed, answer = start.removeprefix(THINK).partition(THOUGHT)
    if opened or (closed and THINK not in thinking):
        return answer.lstrip(), thinking.strip()
    return text, ""


def _reasoning_field(message: dict[str, Any]) -> str:
    for name in REASONING_FIELDS:
        value = message.get(name)
        if isinstance(value, str) and value:
            return clean(value)
    return ""


def _blank_reason(reason: str | None, reasoning: str, tokens: int | None) -> str:
    if not reasoning:
        return f"the engine returned no text (finish_reason={reason})"
    spent = "all tokens" if tokens is None else f"all {tokens} tokens"
    return f"{spent} went to reasoning (finish_reason={reason}); raise max_tokens"


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a Retry-After header; its date form is not used by model servers and is ignored."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
