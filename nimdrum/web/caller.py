"""The one who asked over HTTP: whether it still waits, and the id that its request has in the logs."""

import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from errno import EOPNOTSUPP
from typing import Any

TCP_ESTABLISHED = 1  # first byte of the kernel's struct tcp_info
SERVERS_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
LONGEST_ID = 128
SAFE_ID = re.compile(r"[\w.:/+=@-]+", re.ASCII)


@dataclass(frozen=True)
class Caller:
    """`gone` says whether it stopped waiting; `request_id` is fit for a header, or None."""

    gone: Callable[[], bool] = lambda: False
    request_id: str | None = None

    def engine_request_id(self) -> str | None:
        """The id for one request to the engine: the caller's, made unique.

        A client that sends a request again uses its id again, and vLLM refuses an id that it already works on.
        """
        return f"{self.request_id}-{secrets.token_hex(2)}" if self.request_id else None


def current_caller(headers: Mapping[str, str] | None = None) -> Caller:
    """The caller of DRUM's present request; one that always waits outside of a request."""
    from flask import has_request_context, request

    if not has_request_context():
        return Caller(request_id=safe_id((headers or {}).get("X-Request-Id")))
    given = (headers if headers is not None else request.headers).get("X-Request-Id")
    return Caller(gone=connection_ended(request.environ), request_id=safe_id(given) or safe_id(_drums_id()))


def _drums_id() -> str | None:
    """The id that DRUM gave the request and puts into its answer."""
    try:
        from datarobot_drum.drum.common import ctx_request_id
    except ImportError:  # an older DRUM
        return None
    given: str | None = ctx_request_id.get(None)
    return given


def safe_id(given: str | None) -> str | None:
    """`given` when it may go into a header and a log line as it is."""
    return given if given and len(given) <= LONGEST_ID and SAFE_ID.fullmatch(given) else None


def connection_ended(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A look at the caller's TCP connection, which WSGI servers only notice when they write to it.

    The kernel is asked for the connection's state, and nothing is read: that is the same for blocking sockets and
    gevent's. A caller that closed its sending half only counts as gone too, as it does for nginx.
    """
    connection = next((environ[name] for name in SERVERS_SOCKETS if environ.get(name) is not None), None)
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return lambda: False

    def ended() -> bool:
        try:
            state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        except OSError as error:
            return error.errno != EOPNOTSUPP  # a Unix socket has no such state; a closed one has none any more
        return state != TCP_ESTABLISHED

    return ended
