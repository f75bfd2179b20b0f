"""/nim/<path> and /directAccess/<path>: the engine's own API through DRUM's port, streamed like it."""

import json
from collections.abc import Iterator
from typing import Any

from nimdrum.base.errors import HTTPStatusError
from nimdrum.session.attach import Endpoint
from nimdrum.session.caller import current_caller
from nimdrum.session.exchange import Ask, Exchange, ExchangeError, as_chat_error, call_engine, own_headers
from nimdrum.session.model import Model
from nimdrum.web.bodies import read_body
from nimdrum.web.forward import PathRefused, engine_target, to_caller, to_engine
from nimdrum.web.sse import EVENT_STREAM

METHODS = ("GET", "HEAD", "POST", "PUT")
NO_BODY = (204, 304)


def pass_through(model: Model, root: str, path: str) -> Any:
    """The engine's answer to Flask's present request, as a Flask response. Raises HTTPStatusError and its kin.

    `root` is where the engine's paths begin on this server, for redirects.
    """
    from flask import Response, request

    query = request.query_string.decode("latin-1")
    try:
        target = engine_target(path, query)
    except PathRefused as error:
        raise HTTPStatusError(str(error), 400) from error
    caller = current_caller()
    body = read_body(request, model.settings.max_request_mb) if request.method in ("POST", "PUT") else None
    headers = [*to_engine(request.headers.items()), *own_headers(model, caller)]
    where: list[Endpoint] = []

    def ask(endpoint: Endpoint) -> Ask:
        where.append(endpoint)
        return Ask(request.method, target, headers, body)

    exchange = call_engine(model, caller, ask)
    response = Response(
        _body(exchange), status=exchange.status, headers=to_caller(exchange.headers.items(), where[-1].url, root)
    )
    length = exchange.headers.get("Content-Length")
    if length is not None and exchange.headers.get("Transfer-Encoding") is None:
        response.headers["Content-Length"] = length
    elif request.method == "HEAD" or exchange.status in NO_BODY:
        response.headers.pop("Content-Length", None)
    response.call_on_close(exchange.close)
    return response


def _body(exchange: Exchange) -> Iterator[bytes]:
    """The body as it comes. A stream of events that breaks off ends in an error event."""
    try:
        yield from exchange.pieces()
    except ExchangeError as error:
        if exchange.headers.get_content_type() != EVENT_STREAM:
            raise  # the server cuts the connection, which is what the engine's did
        yield error_event(error)
    finally:
        exchange.close()


def error_event(error: ExchangeError) -> bytes:
    """What ends a stream that broke off; the blank line first closes a half event."""
    return b"\n\ndata: " + json.dumps({"error": as_chat_error(error).error}).encode() + b"\n\ndata: [DONE]\n\n"
