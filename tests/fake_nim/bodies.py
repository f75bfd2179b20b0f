"""The shapes of what the fake says: errors of both lines, health, models, completions, metrics. Pure."""

from __future__ import annotations

import http
import json
from typing import Any

from .checks import Chat
from .config import FakeNimConfig
from .text import Choice

Json = dict[str, Any]

ENGINE_DEAD = "Engine loop is not running. Inspect the stacktrace to find the original error: RuntimeError('fake')."
DONE = b"data: [DONE]\n\n"
RELEASES = {"1.x": "1.8.4", "2.x": "2.0.5"}
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


def models(names: tuple[str, ...], max_model_len: int) -> Json:
    common = {"object": "model", "created": _CREATED, "owned_by": "vllm", "parent": None, "permission": []}
    data = [{"id": name, "root": names[0], "max_model_len": max_model_len, **common} for name in names]
    return {"object": "list", "data": data}


def version(line: str) -> Json:
    return {"release": RELEASES[line], "api": RELEASES[line]}


def metadata(line: str, names: tuple[str, ...]) -> Json:
    info = [{"shortName": name, "modelUrl": f"ngc://fake/{name}"} for name in names]
    return {
        "version": RELEASES[line],
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
        message: Json = {"role": "assistant", "content": choice.content, "tool_calls": []}
        if config.reasoning:
            message[config.reasoning_field] = config.reasoning
        listed.append({"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason})
    return {
        "id": id_,
        "object": "chat.completion",
        "created": _CREATED,
        "model": chat.model,
        "choices": listed,
        "usage": usage(chat, choices),
    }


def chunk(id_: str, chat: Chat, index: int, delta: Json, finish_reason: str | None = None) -> bytes:
    """One server-sent event of a stream."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return event({**_chunk_head(id_, chat), "choices": [choice]})


def usage_chunk(id_: str, chat: Chat, choices: list[Choice]) -> bytes:
    """The last event before [DONE] where include_usage was asked for: no choices, the usage."""
    return event({**_chunk_head(id_, chat), "choices": [], "usage": usage(chat, choices)})


def _chunk_head(id_: str, chat: Chat) -> Json:
    return {"id": id_, "object": "chat.completion.chunk", "created": _CREATED, "model": chat.model}


def event(body: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(body) + b"\n\n"


def metrics(name: str, running: int, waiting: int, prompt_tokens: int, generation_tokens: int) -> bytes:
    """A Prometheus page with vLLM's names."""
    rows = (
        ("num_requests_running", "gauge", running),
        ("num_requests_waiting", "gauge", waiting),
        ("prompt_tokens_total", "counter", prompt_tokens),
        ("generation_tokens_total", "counter", generation_tokens),
    )
    lines = []
    for metric, kind, value in rows:
        lines.append(f"# TYPE vllm:{metric} {kind}")
        lines.append(f'vllm:{metric}{{engine="0",model_name="{name}"}} {float(value)}')
    return ("\n".join(lines) + "\n").encode()
