"""/nim/<path> and /directAccess/<path>: the engine's own API through DRUM's port, streamed like it.

Which paths and headers may pass is decided by the pure functions at the top.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from nimdrum.base.errors import HTTPStatusError
from nimdrum.engines.wire import SHOWN_CHARACTERS, clean
from nimdrum.session.caller import current_caller
from nimdrum.session.exchange import Ask, EngineCall, Exchange, ExchangeError, as_chat_error, own_headers
from nimdrum.session.model import Model
from nimdrum.web.bodies import read_body
from nimdrum.web.stream import EVENT_STREAM

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer trailers "
    "transfer-encoding upgrade http2-settings".split()
)
MADE_AGAIN = frozenset("host content-length expect x-request-id via date server".split())
SECRET_PARTS = (
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "credential",
    "apikey",
    "jwt",
    "authn",
    "authz",
)
SECRET_WORDS = frozenset(
    "auth key keys cert certificate assertion signature session sso saml oidc csrf xsrf passwd pass "
    "principal identity userinfo webauth authenticated ip dn".split()
)
"""A header's words, between its hyphens, that tell who the caller is or with what he proves it."""
HARMLESS = frozenset(("idempotency-key",))
PRIVATE_STARTS = (
    "x-datarobot",
    "datarobot",
    "x-drum",
    "x-forwarded",
    "forwarded",
    "x-amz",
    "x-goog",
    "x-remote",
    "remote-",
)
PATH_SAFE = "/-._~!$&'()*+,;=:@"
QUERY = re.compile(r"[!-~]*")
CONTROL = re.compile(r"[\x00-\x20\x7f\\]")


INFERENCE = frozenset(
    "v1/chat/completions v1/completions v1/responses v1/messages v1/embeddings v1/rerank v2/rerank rerank v1/ranking "
    "v1/score score v1/classify classify pooling v1/infer invocations generate v1/audio/transcriptions "
    "v1/audio/translations v1/images/generations completion completions chat/completions embedding embeddings infill "
    "tokenize detokenize v1/tokenize v1/detokenize apply-template v1/messages/count_tokens".split()
)
INFORMATION = frozenset(
    "v1/models models v1/health/ready v1/health/live health health_generate ping version v1/version v1/metadata "
    "v1/license v1/manifest metrics v1/metrics load get_model_info model_info openapi.json".split()
)


def may_pass(path: str, more: Sequence[str]) -> bool:
    """Whether a decoded path is for inference or information, or among `more`, where `*` at the end means any rest."""
    path = path.strip("/")
    if path in INFERENCE or path in INFORMATION:
        return True
    return any(path == other or (other.endswith("*") and path.startswith(other[:-1])) for other in more)


class PathRefused(ValueError):
    """A path that no client of an engine needs."""


def engine_target(path: str, query: str) -> str:
    """The request target for the engine from a decoded path and the raw query. Raises PathRefused.

    Refused are `.` and `..` in any encoding, empty parts (`//host`), absolute URLs, backslashes and control
    characters: they could mean something else to the engine, or to a proxy before it, than to us.
    """
    path = path.rstrip("/")  # as DRUM's own pass-through does
    decoded = unquote(path)
    for form in (path, decoded, unquote(decoded)):
        parts = form.rstrip("/").split("/")
        if any(part in ("", ".", "..") for part in parts) or CONTROL.search(form) or "://" in form:
            raise PathRefused("This path is not passed through.")
    if not QUERY.fullmatch(query) or "#" in query:
        raise PathRefused("This query is not passed through.")
    return f"/{quote(path, safe=PATH_SAFE)}" + (f"?{query}" if query else "")


def to_engine(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The caller's headers that the engine gets: no hop-by-hop ones, nothing that says who the caller is."""
    return [(name, value) for name, value in _end_to_end(headers) if not _is_private(name)]


def to_caller(headers: Iterable[tuple[str, str]], engine_root: str, own_root: str) -> list[tuple[str, str]]:
    """The engine's headers that the caller gets. A redirect inside the engine is turned into one through us."""
    kept = []
    for name, value in _end_to_end(headers):
        if name.lower() == "location":
            try:
                there = urlsplit(value)
            except ValueError:
                continue
            if there.netloc and f"{there.scheme}://{there.netloc}" != engine_root:
                continue
            value = own_root + there.path + (f"?{there.query}" if there.query else "")
        if name.lower() != "set-cookie":
            kept.append((name, value))
    return kept


def _end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    everything = list(headers)
    named = {
        word.strip().lower() for name, value in everything if name.lower() == "connection" for word in value.split(",")
    }
    dropped = HOP_BY_HOP | MADE_AGAIN | named
    return [(name, value) for name, value in everything if name.lower() not in dropped]


def _is_private(name: str) -> bool:
    lower = name.lower()
    if lower in HARMLESS:
        return False
    words = set(lower.replace("_", "-").split("-"))
    return lower.startswith(PRIVATE_STARTS) or any(part in lower for part in SECRET_PARTS) or bool(words & SECRET_WORDS)


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
    if not may_pass(path, model.settings.pass_through_paths):
        raise HTTPStatusError(
            f"The path {clean(path)[:SHOWN_CHARACTERS]} is not passed through: it is neither for inference nor for "
            "information. The runtime parameter pass_through_paths names further ones.",
            403,
        )
    caller = current_caller()
    body = read_body(request, model.settings.max_request_mb) if request.method in ("POST", "PUT") else None
    headers = [*to_engine(request.headers.items()), *own_headers(model, caller)]
    call = EngineCall(model, caller, model.settings.direct_access_timeout_sec)
    exchange = call.send(Ask(request.method, target, headers, body), call.ready())
    kept = to_caller(exchange.headers.items(), exchange.endpoint.url, root)
    response = Response(_body(exchange), status=exchange.status, headers=kept)
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
