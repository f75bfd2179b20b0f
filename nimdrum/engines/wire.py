"""What an engine says when it refuses, as one OpenAI error object. Pure."""

import json
from typing import Any

FIELDS = ("message", "type", "param", "code")
LARGEST_READ = 1_000_000


def engine_error(status: int, body: bytes) -> dict[str, Any]:
    """`{"message", "type", "param", "code"}` from a body of any engine: nested (vLLM, NIM 2.x, llama.cpp), flat
    (NIM 1.x), `detail` (FastAPI), plain text, or a proxy's HTML page."""
    text = body[:LARGEST_READ].decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    nested = document.get("error") if isinstance(document, dict) else None
    if isinstance(nested, dict):
        found: dict[str, Any] = nested
    elif isinstance(document, dict):
        found = {**document, "message": document.get("message") or document.get("detail") or nested}
    else:
        found = {"message": document}
    return {
        "message": _sentence(status, found.get("message")),
        "type": _word(found.get("type")) or ("invalid_request_error" if status < 500 else "engine_error"),
        "param": _word(found.get("param")),
        "code": found["code"] if isinstance(found.get("code"), int | str) else status,
    }


def own_error(message: str, type_: str, code: int) -> dict[str, Any]:
    """An error of ours in the same shape."""
    return {"message": message, "type": type_, "param": None, "code": code}


def _sentence(status: int, given: Any) -> str:
    """The engine's own words; of its failures only the first line, which is no stack, and nothing of a page."""
    text = clean(given if isinstance(given, str) else json.dumps(given) if given else "").strip()
    if text.startswith("<"):
        text = ""
    if status >= 500:
        text = text.partition("\n")[0]
        text = "" if text.startswith("Traceback") else text
    return text[:SHOWN_CHARACTERS] or f"The engine answered HTTP {status}."


def _word(given: Any) -> str | None:
    return clean(given)[:SHOWN_CHARACTERS] if isinstance(given, str) else None


def clean(text: str) -> str:
    """`text` without lone surrogates, one of which would lose DRUM the whole batch when it writes UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


SHOWN_CHARACTERS = 500
