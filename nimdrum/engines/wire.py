"""What goes to every engine and what it says when it refuses, the same for rows and chats. Pure."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
SYSTEM_ROLES = ("system", "developer")
SHOWN_CHARACTERS = 500
MOST_TOKENS = 1_000_000_000  # of one answer; a count beyond it is none
SHOWN_NAME = 100
LARGEST_READ = 1_000_000
DEAD_MARKS = (
    "engine loop is not running",
    "enginedeaderror",
    "engine process failed",
    "enginecore encountered an issue",
)
"""How NIM 1.x (the first three) and vLLM (the last) say that their engine is dead: a 500 has no other mark."""


def with_system_prompt(messages: Sequence[Any], system_prompt: str | None) -> list[Any]:
    """`messages` with the prompt before them, unless they have one of their own: of the role system or, as OpenAI calls
    it since, developer."""
    if not system_prompt or any(isinstance(each, dict) and each.get("role") in SYSTEM_ROLES for each in messages):
        return list(messages)
    return [{"role": "system", "content": system_prompt}, *messages]


@dataclass(frozen=True)
class EngineError:
    """An error answer of an engine. `message` is its own words, fit for a caller: no stack, no page, never empty."""

    message: str
    type: str
    param: str | None
    code: int | str
    too_long: bool
    """The prompt does not fit into the model's context."""
    dead: bool
    """The server lives, but the engine in it does not."""
    no_such_model: bool = False

    def for_openai(self) -> dict[str, Any]:
        """The error object that OpenAI's clients know."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


def read_error(status: int, body: bytes) -> EngineError:
    """The error in a body of any engine: nested (vLLM, NIM 2.x, llama.cpp), flat (NIM 1.x), `detail` (FastAPI), plain
    text, or a proxy's HTML page. Any body is understood, also none and half a JSON."""
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
        found = {"message": text}
    given = found.get("message")
    words = clean(given if isinstance(given, str) else json.dumps(given) if given else "").strip()
    if not words and status < 500:
        words = clean(text).strip()
    kind, param = _word(found.get("type")), _word(found.get("param"))
    return EngineError(
        message=_sentence(status, words),
        type=kind or ("invalid_request_error" if status < 500 else "engine_error"),
        param=param,
        code=found["code"] if isinstance(found.get("code"), int | str) else status,
        # vLLM says it with `param`, llama.cpp with `type`.
        too_long=param in ("input_tokens", "input_text") or kind == "exceed_context_size_error",
        dead=status == 500 and any(mark in words.lower() for mark in DEAD_MARKS),
        no_such_model=status == 404 and param == "model",
    )


def model_names(body: bytes) -> list[str]:
    """What MODELS_PATH lists. Raises ValueError, KeyError, TypeError or RecursionError for what is no such list."""
    return [entry["id"] for entry in json.loads(body)["data"] if isinstance(entry["id"], str)]


def unknown_model(model: str, names: Iterable[str]) -> str:
    """What to say of a model that an engine does not list; an adapter is a model of its own there."""
    listed = ", ".join(clean(name)[:SHOWN_CHARACTERS] for name in names)[:SHOWN_CHARACTERS]
    return f"the engine has no model {clean(model)[:SHOWN_NAME]!r}; there are: {listed}"


def own_error(message: str, type_: str, code: int) -> dict[str, Any]:
    """An error of ours in the shape of OpenAI's."""
    return {"message": message, "type": type_, "param": None, "code": code}


def _sentence(status: int, words: str) -> str:
    """Of a failure only the first line, which is no stack, and nothing of a page."""
    if words.startswith("<"):
        words = ""
    if status >= 500:
        words = words.partition("\n")[0]
        words = "" if words.startswith("Traceback") else words
    return " ".join(words.split())[:SHOWN_CHARACTERS] or f"The engine answered HTTP {status}."


def _word(given: Any) -> str | None:
    return clean(given)[:SHOWN_CHARACTERS] if isinstance(given, str) else None


def clean(text: str) -> str:
    """`text` without lone surrogates, one of which would lose DRUM the whole batch when it writes UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
