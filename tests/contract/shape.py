"""What of an answer is held fixed: status, kind, keys, and of an error its type, its param and its first words. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

WORDS = 5  # of an error's message: what comes behind changes with each release


def answer_shape(status: int, content_type: str, body: bytes) -> dict[str, Any]:
    """The answer as the contract has it."""
    kind = content_type.partition(";")[0]
    shape: dict[str, Any] = {"status": status, "kind": kind}
    if kind == "text/event-stream":
        return {**shape, "events": _events(body)}
    if kind == "application/json":
        document = json.loads(body)
        error = document.get("error") if isinstance(document, dict) else None
        return {**shape, "error": _error(error)} if error else {**shape, "body": value_shape(document)}
    return shape


def value_shape(value: Any) -> Any:
    """Keys and types of a JSON value. A list is one shape when its items have it in common."""
    if isinstance(value, dict):
        return {key: value_shape(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return _without_repeats([value_shape(item) for item in value])
    return "null" if value is None else type(value).__name__


def metric_labels(page: str) -> dict[str, list[str]]:
    """The names of vLLM's on a metrics page, each with its labels."""
    found = re.findall(r"^(vllm:\w+)\{(.*)\} ", page, re.MULTILINE)
    whole = ((name, labels) for name, labels in found if not name.endswith(("_created", "_bucket")))
    return {name: sorted(re.findall(r'(\w+)="', labels)) for name, labels in whole}


def _error(error: dict[str, Any]) -> dict[str, Any]:
    return {**error, "message": " ".join(re.sub(r"\d+", "N", error["message"]).split()[:WORDS])}


def _events(body: bytes) -> list[Any]:
    """Each kind of event, by its first: how many tokens come in one, and which choice is ahead, is not held fixed."""
    data = [block.removeprefix("data: ") for block in body.decode().split("\n\n") if block]
    return _without_repeats([text if text == "[DONE]" else value_shape(json.loads(text)) for text in data])


def _without_repeats(shapes: list[Any]) -> list[Any]:
    return [shape for i, shape in enumerate(shapes) if shape not in shapes[:i]]
