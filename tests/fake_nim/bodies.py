"""The shapes of what the fake says: errors of both lines, health, models, completions, metrics. Pure."""

from __future__ import annotations

import http
import json
from collections.abc import Mapping
from typing import Any

from .checks import Chat
from .config import FakeNimConfig
from .text import Choice

Json = dict[str, Any]

ENGINE_DEAD = {
    "1.x": "Engine loop is not running. Inspect the stacktrace to find the original error: RuntimeError('fake').",
    "2.x": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
}
FINGERPRINT = "vllm-fake"
ENDS = ("stop", "length", "abort", "error", "repetition")
DONE = b"data: [DONE]\n\n"
_CREATED = 1_700_000_000  # a fixed time: answers are deterministic


def encode(body: Json) -> bytes:
    """JSON in UTF-8, or with escapes where the text cannot be UTF-8 (a lone surrogate)."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()


def error(line: str, status: int, type_: str, message: str, param: str | None = None) -> Json:
    """An error: flat in 1.x, nested in 2.x."""
    inner = {"message": message, "type": type_, "param": param, "code": status}
    return {"object": "error", **inner} if line == "1.x" else {"error": inner}


def nginx_html(status: int) -> bytes:
    """The page nginx makes itself where it has nobody to ask."""
    title = f"{status} {http.HTTPStatus(status).phrase}"
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return (page + "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n").encode()


def health(line: str, word: str) -> Json:
    """The health body; `word` is "live", "ready" or "not ready". Judge by status, not by this."""
    body = {"object": "health.response", "message": f"Service is {word}."}
    return body if line == "1.x" else {**body, "status": word}


_ALLOWED = ("create_engine", "fine_tuning", "logprobs", "sampling", "search_indices", "view")


def models(names: tuple[str, ...], max_model_len: int, adapters: tuple[str, ...] = ()) -> Json:
    allowed = {f"allow_{name}": name != "fine_tuning" for name in _ALLOWED}
    head = {"id": "modelperm-fake", "object": "model_permission", "created": _CREATED}
    permission = {**head, **allowed, "organization": "*", "group": None, "is_blocking": False}
    common = {"object": "model", "created": _CREATED, "owned_by": "vllm", "parent": None, "permission": [permission]}
    data = [{"id": name, "root": names[0], "max_model_len": max_model_len, **common} for name in names]
    lora = {**common, "parent": names[0], "max_model_len": None}
    data += [{"id": name, "root": f"/adapters/{name}", **lora} for name in adapters]
    return {"object": "list", "data": data}


def version(version: str) -> Json:
    return {"release": version, "api": version}


def metadata(version: str, names: tuple[str, ...]) -> Json:
    info = [{"shortName": name, "modelUrl": f"ngc://fake/{name}"} for name in names]
    return {
        "version": version,
        "modelInfo": info,
        "selectedModelProfileId": "f" * 64,
        "licenseInfo": {},
    }


def usage(chat: Chat, choices: list[Choice]) -> Json:
    made = sum(choice.token_count for choice in choices)
    total = chat.prompt_tokens + made
    return {"prompt_tokens": chat.prompt_tokens, "completion_tokens": made, "total_tokens": total}


def completion(config: FakeNimConfig, id_: str, chat: Chat, choices: list[Choice]) -> Json:
    listed = []
    for index, choice in enumerate(choices):
        message: Json = {"role": "assistant", "content": choice.content, **dict.fromkeys(_MESSAGE_NULLS)}
        if config.reasoning and chat.thinks:
            message[config.reasoning_field] = config.reasoning
        if chat.tool:
            message |= {"content": None, "tool_calls": [tool_call(chat.tool, choice.content or "")]}
        one: Json = {"index": index, "message": message, "logprobs": logprobs(chat, choice.tokens or [])}
        reason = "tool_calls" if chat.tool else choice.finish_reason
        listed.append({**one, "finish_reason": reason, **dict.fromkeys(_CHOICE_NULLS), "stop_reason": choice.stop})
    return {
        "id": id_,
        "object": "chat.completion",
        "created": _CREATED,
        "model": chat.model,
        "choices": listed,
        "system_fingerprint": FINGERPRINT,
        "usage": {**usage(chat, choices), **dict.fromkeys(_USAGE_NULLS)},
        **dict.fromkeys(_ANSWER_NULLS),
    }


def tool_call(name: str, text: str) -> Json:
    """A call of a tool, with what would have been the answer as its argument."""
    function = {"name": name, "arguments": json.dumps({"text": text})}
    return {"id": "chatcmpl-tool-fake", "type": "function", "function": function}


_MESSAGE_NULLS = ("refusal", "annotations", "audio", "function_call", "reasoning")
_CHOICE_NULLS = ("stop_reason", "token_ids", "routed_experts")
_USAGE_NULLS = ("prompt_tokens_details", "completion_tokens_details")
_ANSWER_NULLS = (
    *("service_tier", "prompt_logprobs", "prompt_token_ids", "prompt_text"),
    *("kv_transfer_params", "ec_transfer_params", "metrics"),
)


def logprobs(chat: Chat, tokens: list[str]) -> Json | None:
    """Of each token, where they were asked for; every token is equally likely."""
    if chat.top_logprobs is None:
        return None
    rows = [{"token": token, "logprob": -1.0, "bytes": list(token.encode("utf-8", "replace"))} for token in tokens]
    return {"content": [{**row, "top_logprobs": [row] * chat.top_logprobs} for row in rows]}


def opening(id_: str, chat: Chat, index: int) -> bytes:
    """The first event of a choice, before any token."""
    choice = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    nulls = dict.fromkeys(("prompt_token_ids", "prompt_text"))
    return event({**_chunk_head(id_, chat), "choices": [choice], **nulls})


def chunk(id_: str, chat: Chat, index: int, delta: Json, finish_reason: str | None = None) -> bytes:
    """One event of a stream: a token, the last of a choice with the reason why it is the last."""
    tokens = [delta["content"]] if delta.get("content") else []
    choice: Json = {"index": index, "delta": delta, "logprobs": logprobs(chat, tokens) if tokens else None}
    choice |= {"finish_reason": finish_reason, "token_ids": None}
    if not finish_reason:
        return event({**_chunk_head(id_, chat), "choices": [choice]})
    last = {} if chat.include_usage else {"system_fingerprint": FINGERPRINT}
    return event({**_chunk_head(id_, chat), "choices": [{**choice, "stop_reason": None}], **last})


def usage_chunk(id_: str, chat: Chat, choices: list[Choice]) -> bytes:
    """The last event before [DONE] where include_usage was asked for: no choices, the usage."""
    told = {"choices": [], "usage": usage(chat, choices), "system_fingerprint": FINGERPRINT}
    return event({**_chunk_head(id_, chat), **told})


def _chunk_head(id_: str, chat: Chat) -> Json:
    return {"id": id_, "object": "chat.completion.chunk", "created": _CREATED, "model": chat.model}


def event(body: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(body) + b"\n\n"


def metrics(
    name: str, running: int, waiting: int, prompt_tokens: int, generation_tokens: int, ended: Mapping[str, int]
) -> bytes:
    """A Prometheus page with vLLM's names; `ended` has how many choices ended for which reason."""
    whole = f'engine="0",model_name="{name}"'
    reasons = {f'engine="0",finished_reason="{reason}",model_name="{name}"': ended.get(reason, 0) for reason in ENDS}
    rows: tuple[tuple[str, str, Mapping[str, int]], ...] = (
        ("num_requests_running", "gauge", {whole: running}),
        ("num_requests_waiting", "gauge", {whole: waiting}),
        ("prompt_tokens_total", "counter", {whole: prompt_tokens}),
        ("generation_tokens_total", "counter", {whole: generation_tokens}),
        ("request_success_total", "counter", reasons),
    )
    lines = []
    for metric, kind, values in rows:
        lines.append(f"# TYPE vllm:{metric} {kind}")
        lines += [f"vllm:{metric}{{{labels}}} {float(value)}" for labels, value in values.items()]
    return ("\n".join(lines) + "\n").encode()
