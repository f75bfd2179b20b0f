"""What a request asks of the engine beside model and messages: one row for each field. Pure.

Runtime parameters, columns of rows, the defaults of chats and the request's body are all made from `FIELDS`.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

RESPONSE_FORMATS = ("text", "json_object", "json_schema")
SCHEMA_NAME = "answer"
TOOL_CHOICES = ("none", "auto", "required")
A_LIST_OF_TEXTS = re.compile(r"\s*\[\s*[\"\]]")
SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Number:
    """Reads a number from `low` to `high`."""

    low: float
    high: float
    whole: bool = False
    zero_is_none: bool = False

    def __call__(self, text: str) -> float | None:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high or (self.whole and not number.is_integer()):
            kind = "a whole number" if self.whole else "a number"
            raise ValueError(f"is {_shown(text)}; allowed is {kind} from {self.low:.10g} to {self.high:.10g}")
        return self.of(int(number) if self.whole else number)

    def of(self, number: float | None) -> float | None:
        return None if number == 0 and self.zero_is_none else number


def read_stop(text: str) -> list[str] | None:
    """A JSON list of texts; any other text is itself what ends an answer."""
    texts = _json(text) if A_LIST_OF_TEXTS.match(text) else [text]
    if not isinstance(texts, list) or not all(isinstance(each, str) and each for each in texts):
        raise ValueError(f"is {_shown(text)}; allowed is a text, or a JSON list of texts of which none is empty")
    return texts or None


def read_response_format(text: str) -> dict[str, Any]:
    """OpenAI's object of that name. A bare JSON schema is wrapped into one."""
    try:
        document = _json(text)
    except ValueError as error:
        raise ValueError(f"{error}. Give a JSON schema as text") from None
    if not isinstance(document, dict) or not document:
        raise ValueError("must be a JSON object: a JSON schema, or OpenAI's response_format itself")
    if document.get("type") not in RESPONSE_FORMATS:
        return {"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "schema": document}}
    if document["type"] == "json_schema":
        inner = document.get("json_schema")
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise ValueError("has the type json_schema, so it needs json_schema with a name and a schema")
        if not isinstance(inner.get("schema"), dict):
            raise ValueError("has no schema in json_schema. A schema is a JSON object")
    return document


def read_tools(text: str) -> list[Any] | None:
    """OpenAI's list of that name."""
    tools = _json(text)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError('must be a JSON list of tools, each as {"type": "function", "function": {"name": ...}}')
    return tools or None


def read_tool_choice(text: str) -> str | dict[str, Any]:
    """One of TOOL_CHOICES, or OpenAI's object that names a tool."""
    if (word := text.strip().strip('"').lower()) in TOOL_CHOICES:
        return word
    choice = _json(text) if text.lstrip().startswith("{") else None
    if not isinstance(choice, dict):
        raise ValueError(
            f"is {_shown(text)}; allowed are {', '.join(TOOL_CHOICES)}, and a JSON object that names a tool"
        )
    return choice


def read_extra_body(text: str) -> dict[str, Any]:
    """A JSON object whose entries go into the request as they are."""
    document = _json(text)
    if not isinstance(document, dict):
        raise ValueError('must be a JSON object, as {"top_k": 20}')
    if taken := sorted(TAKEN & document.keys()):
        raise ValueError(
            f"names {', '.join(taken)}: it may not say model, messages, n and how an answer is streamed, nor what has "
            "a parameter of its own"
        )
    return document


FIELDS: Mapping[str, Callable[[str], Any]] = {
    "max_tokens": Number(0, 10_000_000, whole=True, zero_is_none=True),
    "temperature": Number(0, 2),
    "top_p": Number(0.0001, 1),
    "seed": Number(0, 2**31 - 1, whole=True),
    "stop": read_stop,
    "frequency_penalty": Number(-2, 2),
    "presence_penalty": Number(-2, 2),
    "logprobs": Number(0, 20, whole=True, zero_is_none=True),
    "response_format": read_response_format,
    "tools": read_tools,
    "tool_choice": read_tool_choice,
    "extra_body": read_extra_body,
}
"""By the name of parameter and column: what a text says, None for nothing. Each reader raises ValueError with the end
of a sentence that begins with the name. The bounds of a parameter are those of model-metadata.yaml, where a model may
have its own."""

TAKEN = frozenset((*FIELDS, "model", "messages", "n", "stream", "stream_options", "top_logprobs"))
"""What extra_body may not say."""


def with_fields(fields: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with those of `own` in their place; of the two extra_body the second is a merge patch on the first."""
    both = {**fields, **own}
    if fields.get("extra_body") and own.get("extra_body"):
        both["extra_body"] = merged(fields["extra_body"], own["extra_body"])
    return both


def merged(base: Any, patch: Any) -> Any:
    """`base` changed by a JSON merge patch (RFC 7396): objects entry by entry, and null takes one away."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def body_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What `fields` are in a chat completion request, without a tool_choice that has no tools: engines refuse it.

    In one order whatever theirs is, so that the same request is the same bytes.
    """
    body = {name: fields[name] for name in FIELDS if fields.get(name) is not None}
    extra: dict[str, Any] = merged({}, body.pop("extra_body", {}))
    if "tools" not in body:
        body.pop("tool_choice", None)
    if "logprobs" in body:
        body |= {"logprobs": True, "top_logprobs": body["logprobs"]}
    return body | extra


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({str(error)[:SHOWN_CHARACTERS]}): {_shown(text)}") from None


def _shown(text: str) -> str:
    return repr(text[:SHOWN_CHARACTERS])
