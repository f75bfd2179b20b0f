"""A caller's chat request as the engine gets it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nimdrum.base.errors import ChatError
from nimdrum.engines.plan import DEFAULT_MODEL_NAME

OURS = "datarobot_"
"""Fields with this beginning are DataRobot's (association id, metrics, ...): an engine may refuse them."""
LENGTHS = ("max_tokens", "max_completion_tokens")
MOST_CHOICES = 128
"""OpenAI's own bound for `n`, and that of the runtime parameter. An engine's own is far higher, where it has one."""
SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True)
class Defaults:
    """What the runtime parameters say, for callers who left it out."""

    system_prompt: str | None
    max_tokens: int
    temperature: float | None


def chat_body(params: Mapping[str, Any], served: str, defaults: Defaults | None = None) -> dict[str, Any]:
    """`params` for an engine that serves the model `served`; every field that is not DataRobot's stays as it is.

    The name that DataRobot's clients send, an empty one and none at all mean the served model. Another name goes
    through: that it is unknown is for the engine to say. `defaults` fills in what the caller left out.
    Raises ChatError (400) when more than MOST_CHOICES answers are asked for.
    """
    _check_choices(params.get("n"))
    body = {name: value for name, value in params.items() if not name.startswith(OURS)}
    if body.get("model") in (None, "", DEFAULT_MODEL_NAME):
        body["model"] = served
    return body if defaults is None else _with_defaults(body, defaults)


def _check_choices(n: Any) -> None:
    """One request must not take the whole engine. What is no number is for the engine to refuse."""
    try:
        many = float(n) > MOST_CHOICES
    except OverflowError:
        many = True
    except (TypeError, ValueError):
        return
    if many:
        message = f"n is {str(n)[:40]}; allowed are at most {MOST_CHOICES} choices in one request. Send several."
        raise ChatError(message, 400, {"message": message, "type": "invalid_request_error", "param": "n", "code": 400})


def _with_defaults(body: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    if all(body.get(name) is None for name in LENGTHS):
        body["max_tokens"] = defaults.max_tokens
    if body.get("temperature") is None and defaults.temperature is not None:
        body["temperature"] = defaults.temperature
    messages = body.get("messages")
    if defaults.system_prompt and isinstance(messages, list) and not any(map(_is_system, messages)):
        body["messages"] = [{"role": "system", "content": defaults.system_prompt}, *messages]
    return body


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in SYSTEM_ROLES
