"""Error answers: one JSON shape for DRUM's clients and OpenAI's, and nothing internal in them."""

import json
from typing import Any

from nimdrum.base.errors import ChatError, HTTPStatusError, brief, status_of
from nimdrum.session.caller import current_caller
from nimdrum.web.health import RETRY_AFTER_SEC

NOTE = "nimdrum_error"
OUR_ANSWER = "nimdrum_answer"
USER_ERROR = "X-Drum-User-Http-Error"
TRY_LATER = (429, 503)


def remember(error: HTTPStatusError) -> None:
    """Keep `error` for the answer to Flask's present request: DRUM's own error class carries text and status only."""
    from flask import g, has_request_context

    if has_request_context():
        setattr(g, NOTE, error)


def error_answer(error: BaseException) -> tuple[dict[str, Any], int]:
    """Body and status for an error that was raised before DRUM's own handlers."""
    status = status_of(error)
    return {"message": brief(error), "error": openai_error(error, status)}, status


def openai_error(error: BaseException | None, status: int, message: str = "") -> dict[str, Any]:
    """The error object that OpenAI's clients look for."""
    if isinstance(error, ChatError):
        return error.error
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": brief(error) if error else message, "type": kind, "param": None, "code": status}


def finish(response: Any, route: str | None) -> None:
    """Complete an error answer: OpenAI's shape on its routes, when to try again, and no internals of DRUM."""
    from flask import g

    if response.status_code < 400 or response.is_streamed:
        return
    error = g.pop(NOTE, None)
    if response.status_code in TRY_LATER and "Retry-After" not in response.headers:
        asked = error.retry_after if isinstance(error, ChatError) else None
        response.headers["Retry-After"] = asked or str(RETRY_AFTER_SEC)
    if g.get(OUR_ANSWER):
        return
    if response.status_code >= 500 and USER_ERROR not in response.headers:
        request_id = current_caller().request_id or "unknown"
        message = f"ERROR: the server failed on this request. Its log has the cause, under request id {request_id}."
        _replace(response, {"message": message})
    if route in ("chat", "models") and response.is_json:
        body = response.get_json(silent=True)
        said = body.get("message") or body.get("error") if isinstance(body, dict) else None
        if isinstance(said, str):
            _replace(response, {"message": said, "error": openai_error(error, response.status_code, said)})


def _replace(response: Any, body: dict[str, Any]) -> None:
    response.set_data(json.dumps(body))
    response.content_type = "application/json"
