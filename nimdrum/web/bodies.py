"""Bodies that DRUM would answer with a general 500 before a hook sees them: refused here, with what is wrong."""

from contextlib import suppress
from typing import Any

from nimdrum.base.errors import HTTPStatusError
from nimdrum.engines.wire import clean

MEGABYTE = 1 << 20
TOO_LARGE = 413
MOST_READ_ON = 1 << 30
ASSOCIATION_ID = "datarobot_association_id"


def read_body(request: Any, largest_mb: int) -> bytes:
    """The body of Flask's `request`, which keeps it. Raises HTTPStatusError (413) when it is larger than allowed."""
    largest = largest_mb * MEGABYTE
    # One more than allowed: a body that was sent in chunks is cut at this length, and not refused.
    request.max_content_length = largest + 1
    try:
        body = _data(request, parse_form=False)
    except HTTPStatusError as error:
        if error.status != TOO_LARGE:
            raise
        body = None
    if body is None or len(body) > largest:
        _read_on(request)
        raise HTTPStatusError(f"The body has more than {largest_mb} MB (runtime parameter max_request_mb).", TOO_LARGE)
    return body


def _read_on(request: Any) -> None:
    """Let the caller send the rest, up to MOST_READ_ON: closed on unread bytes, the connection is reset, and who sends
    all before he reads never sees the answer."""
    source, left = request.environ["wsgi.input"], min(request.content_length or MOST_READ_ON, MOST_READ_ON)
    with suppress(Exception):  # he may hang up, and each server says that in its own way
        while left > 0 and (piece := source.read(min(left, MEGABYTE))):
            left -= len(piece)


def _data(request: Any, *, parse_form: bool) -> bytes:
    """The body, empty where it is a form that was parsed; kept by Flask. Raises HTTPStatusError."""
    from werkzeug.exceptions import HTTPException

    try:
        body: bytes = request.get_data(parse_form_data=parse_form)
    except HTTPException as error:
        raise HTTPStatusError(str(error.description), error.code or 400) from error
    except Exception as error:  # each server has classes of its own for chunks without a proper size or end
        raise HTTPStatusError(f"The body is not sent as HTTP wants it ({type(error).__name__}).", 400) from error
    return body


def check_chat(request: Any) -> None:
    """Raise HTTPStatusError (400, 415) unless DRUM can read the body: a JSON object, messages in a list.

    What is in the messages is for the engine to judge.
    """
    from werkzeug.exceptions import BadRequest

    if not request.is_json:
        raise HTTPStatusError("A chat request is JSON: send it with Content-Type: application/json.", 415)
    try:
        body = request.get_json()  # kept by Flask: DRUM's own call gives the same object
    except (BadRequest, RecursionError):
        raise HTTPStatusError("The body is not valid JSON.", 400) from None
    if not isinstance(body, dict):
        raise HTTPStatusError("A chat request is a JSON object.", 400)
    if not isinstance(body.get("messages", []), list):
        raise HTTPStatusError("The field messages is a list.", 400)
    # DRUM writes the id into every chunk, where a lone surrogate would end the stream.
    if isinstance(body.get(ASSOCIATION_ID), str):
        body[ASSOCIATION_ID] = clean(body[ASSOCIATION_ID])


def check_form(request: Any) -> None:
    """Raise HTTPStatusError for a form or another body that cannot be read."""
    _data(request, parse_form=True)
