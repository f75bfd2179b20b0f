"""The one who asked over HTTP: whether it still waits, the id of its request in the logs, and who is still answered."""

import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import EOPNOTSUPP
from typing import Any

from nimdrum.base.errors import SupervisorError
from nimdrum.supervisor.rundir import RunDir
from nimdrum.system.locks import lock, try_lock, unlock

TCP_ESTABLISHED = 1  # first byte of the kernel's struct tcp_info
SERVERS_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
LONGEST_ID = 128
SAFE_ID = re.compile(r"[\w.:/+=@-]+", re.ASCII)


MOMENT_SEC = 1e-6  # not 0, which gevent does not take for a pause
_turn = threading.Lock()


def take_turn() -> None:
    """Let the work of one request at a time go on, and new connections in between.

    gevent does all that is ready before it looks for callers: where a hundred requests come, or are answered, in one
    instant, a health check would wait for all of their work, some milliseconds each.
    """
    with _turn:
        time.sleep(MOMENT_SEC)


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


def answering(run_dir: RunDir) -> Callable[[], None]:
    """Say that a request is being answered. The result ends that and may be called again; so does the process's end."""
    held: list[int] = []
    with suppress(SupervisorError):  # an answer matters more than that somebody waits for it
        if (descriptor := try_lock(run_dir.answering, shared=True)) is not None:
            held.append(descriptor)

    def done() -> None:
        while held:
            unlock(held.pop())

    return done


def wait_for_answers(run_dir: RunDir, timeout_sec: float) -> bool:
    """Until no request is being answered; False when it takes longer. For a process that ends afterwards: later
    requests do not count any more."""
    with suppress(SupervisorError):
        lock(run_dir.answering, timeout_sec)
        return True
    return False
