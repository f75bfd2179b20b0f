"""What the engine refuses before it runs a completion. Pure: bytes in, a Chat or a Refusal out.

Status, type, param and the first words are what vLLM answers (tests/contract holds both side by side). The lines
differ: 1.x refuses fields it does not know and a prompt that leaves no room for max_tokens; 2.x ignores the former
and cuts the answer to the room that is left.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

from .config import FakeNimConfig
from .text import count_tokens
from .values import JSON_TYPES, wrong_value

CHARS_PER_TOKEN = 16  # a prompt with more characters than this times max_model_len is refused uncounted

_FIELDS_1X = """
add_generation_prompt best_of chat_template chat_template_kwargs documents echo frequency_penalty
guided_choice guided_decoding_backend guided_grammar guided_json guided_regex
guided_whitespace_pattern ignore_eos include_stop_str_in_output length_penalty logit_bias logprobs
max_tokens messages min_p min_tokens model n nvext parallel_tool_calls presence_penalty priority
repetition_penalty response_format seed skip_special_tokens spaces_between_special_tokens stop
stop_token_ids stream stream_options temperature tool_choice tools top_k top_logprobs top_p
use_beam_search user
"""
FIELDS_1X = frozenset(_FIELDS_1X.split())


@dataclasses.dataclass(frozen=True)
class Refusal:
    status: int
    type: str
    param: str | None
    message: str


@dataclasses.dataclass(frozen=True)
class Chat:
    """A completion request that may run.

    `prompt` is the text of all messages, `limit` the most tokens a choice may have.
    """

    model: str
    prompt: str
    last_user: str
    prompt_tokens: int
    limit: int
    n: int
    stream: bool
    include_usage: bool
    top_logprobs: int | None
    stops: tuple[str, ...] = ()
    tool: str | None = None
    """The one to call."""
    thinks: bool = True


class _Refused(Exception):
    def __init__(self, message: str, *, param: str | None = None, status: int = 400, type: str = "BadRequestError"):
        self.refusal = Refusal(status, type, param, message)


def check_chat(raw: bytes, config: FakeNimConfig, names: tuple[str, ...], max_model_len: int) -> Chat | Refusal:
    """Judge a chat completion body: JSON, fields, model, values, length."""
    try:
        body = _parse(raw)
        _check_fields(body, config.line)
        model = body.get("model") or names[0]
        if model not in (*names, *config.adapters):
            message = f"The model `{model}` does not exist."
            raise _Refused(message, param="model", status=404, type="NotFoundError")
        n = _check_values(body, config)
        return _chat(body, config, model, n, max_model_len)
    except _Refused as refused:
        return refused.refusal


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as error:
        if not raw:
            raise _invalid("body", "missing", "Field required") from None
        raise _invalid(f"body.{error.pos}", "json_invalid", "JSON decode error") from None
    except ValueError:
        raise _invalid("body", "json_invalid", "not UTF-8") from None
    if not isinstance(body, dict):
        raise _invalid("body", "model_attributes_type", "Input should be a valid dictionary")
    return body


def _invalid(param: str, kind: str, message: str, errors: str = "1 validation error") -> _Refused:
    text = f"{errors}: {{'type': {kind!r}, 'loc': {tuple(param.split('.'))}, 'msg': {message!r}}}"
    return _Refused(text, param=param, type="Bad Request")


def _check_fields(body: dict[str, Any], line: str) -> None:
    unknown = sorted(set(body) - FIELDS_1X) if line == "1.x" else []
    if unknown:
        errors = [{"type": "extra_forbidden", "loc": ("body", name)} for name in unknown]
        raise _Refused(str(errors))
    for name in ("max_tokens", "max_completion_tokens", "n", "seed"):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise _invalid(f"body.{name}", "int_parsing", "Input should be a valid integer")
    value = body.get("temperature")
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise _invalid("body.temperature", "float_parsing", "Input should be a valid number")
    for name, type_, word in (("chat_template_kwargs", dict, "dict"), ("tools", list, "list")):
        if body.get(name) is not None and not isinstance(body[name], type_):
            raise _invalid(f"body.{name}", f"{word}_type", f"Input should be a valid {word}")
    if "messages" not in body:
        raise _invalid("body.messages", "missing", "Field required")
    if not isinstance(body["messages"], list):
        raise _invalid("body.messages", "list_type", "Input should be a valid list")
    for number, message in enumerate(body["messages"]):
        if line == "2.x" and isinstance(message, dict) and message.get("content", "") is None:
            param = f"body.messages.{number}.ChatCompletionDeveloperMessageParam.content"
            raise _invalid(param, "string_type", "Input should be a valid string", "12 validation errors")


def _check_values(body: dict[str, Any], config: FakeNimConfig) -> int:
    """Refuse what the sampling parameters cannot be; the number of choices to make."""
    n = 1 if body.get("n") is None else body["n"]
    temperature = body.get("temperature")
    if n < 1:
        raise _Refused(f"n must be at least 1, got {n}.")
    if config.line == "2.x" and (wrong := wrong_value(body)):
        raise _Refused(wrong.message, param=wrong.param)
    if temperature is not None and temperature < 0:
        raise _Refused(f"temperature must be non-negative, got {float(temperature)}.", param="temperature")
    if n > 1 and config.refuse_n == "always":
        raise _Refused(f"This engine does not support more than one choice, got n={n}.")
    if n > 1 and config.refuse_n == "greedy" and temperature == 0:
        raise _Refused(f"n must be 1 when using greedy sampling, got {n}.")
    _check_tools(body, config.tool_parser)
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema") or {}
    if schema.get("type", "object") not in JSON_TYPES:
        raise _Refused(f"Grammar error: Invalid type: {schema['type']}")
    return 1 if config.refuse_n == "ignore" else n


def _check_tools(body: dict[str, Any], parser: bool) -> None:
    choice = body.get("tool_choice", "auto")
    if not body.get("tools"):
        if body.get("tool_choice", "none") != "none":
            raise _Refused("When using `tool_choice`, `tools` must be set.", param="tool_choice")
        return
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise _Refused(
            f"Invalid value for `tool_choice`: {choice}! Only named tools are supported.", param="tool_choice"
        )
    if parser or choice == "none":
        return
    if choice == "auto":
        raise _Refused('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    if choice == "required":
        raise _Refused('tool_choice="required" requires --tool-call-parser to be set')
    name = (choice.get("function") or {}).get("name")
    raise _Refused(f'tool_choice=function "{name}" requires --tool-call-parser to be set')


def _chat(body: dict[str, Any], config: FakeNimConfig, model: str, n: int, max_model_len: int) -> Chat:
    wanted = body.get("max_tokens")
    if config.line == "2.x" and body.get("max_completion_tokens") is not None:
        wanted = body["max_completion_tokens"]
    if wanted is not None and wanted < 1:
        raise _Refused(f"max_tokens must be at least 1, got {wanted}.", param="max_tokens")
    if wanted is not None and wanted > max_model_len:
        message = f"max_tokens={wanted} cannot be greater than max_model_len={max_model_len}."
        raise _Refused(message, param="max_tokens")

    if not body["messages"]:
        raise _Refused("Cannot apply chat template to an empty conversation")
    texts = [_message_text(message, model, config.vision) for message in body["messages"]]
    users = [text for text, message in zip(texts, body["messages"], strict=True) if message.get("role") == "user"]
    prompt = "\n".join(texts)
    start = f"This model's maximum context length is {max_model_len} tokens. However, "
    if len(prompt) > CHARS_PER_TOKEN * max_model_len:
        message = f"{start}your prompt contains {len(prompt)} characters, too many to be worth counting."
        raise _Refused(message, param="input_text")
    tokens = count_tokens(prompt)
    if tokens >= max_model_len:
        raise _Refused(f"{start}your prompt contains {tokens} input tokens.", param="input_tokens")
    room = max_model_len - tokens
    if wanted is not None and wanted > room and config.line == "1.x":
        message = f"{start}you requested {wanted} output tokens and your prompt contains {tokens}."
        raise _Refused(message, param="input_tokens")
    if config.poison and config.poison in prompt:
        raise _Refused("The prompt is poisoned.")
    last_user = users[-1] if users else ""
    stops = body.get("stop") or ()
    return Chat(
        model=model,
        prompt=prompt,
        last_user=last_user,
        prompt_tokens=tokens,
        limit=room if wanted is None else min(wanted, room),
        n=n,
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        top_logprobs=(body.get("top_logprobs") or 0) if body.get("logprobs") else None,
        stops=(stops,) if isinstance(stops, str) else tuple(stops),
        tool=_tool_to_call(body, last_user),
        thinks=bool((body.get("chat_template_kwargs") or {}).get("enable_thinking", True)),
    )


def _tool_to_call(body: dict[str, Any], last_user: str) -> str | None:
    """A named one; with "required" the first; with "auto" the first whose name is in the question."""
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return str(choice["function"]["name"])
    names = [str(tool["function"]["name"]) for tool in body.get("tools") or ()]
    wanted = {"required": names, "auto": [name for name in names if name in last_user]}.get(choice, [])
    return wanted[0] if wanted else None


def _message_text(message: Any, model: str, vision: bool) -> str:
    if not isinstance(message, dict):
        raise _invalid("body.messages", "model_type", "Input should be a valid dictionary")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _invalid("body.messages", "string_type", "Input should be a valid string")
    if any(part.get("type") != "text" for part in content) and not vision:
        raise _Refused(f"{model} is not a multimodal model")
    return "\n".join(
        _picture(part) if part.get("type") == "image_url" else str(part.get("text", "")) for part in content
    )


def _picture(part: dict[str, Any]) -> str:
    """How a picture is read. Data is looked at, an address is not."""
    url = (part.get("image_url") or {}).get("url") or ""
    if url.startswith("data:image/"):
        try:
            base64.b64decode(url.partition(";base64,")[2], validate=True)
        except ValueError:
            raise _Refused("Failed to load image: not base64") from None
    elif not url.startswith(("http://", "https://")):
        raise _Refused("The URL must be either a HTTP, data or file URL.")
    return "[picture]"
