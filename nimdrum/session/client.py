"""HTTP to the engine: connections of this process, kept alive, never carried over a fork, never through a proxy.

On the standard library's `http.client`: see docs/decisions/0004-batch-client-and-window.md for what was measured.
"""

import contextlib
import http.client
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from nimdrum.base.log import event, get_logger
from nimdrum.engines.connection import Connection, TooLarge
from nimdrum.engines.wire import CHAT_PATH

CONNECT_TIMEOUT_SEC = 5.0
IDLE_SEC = 3.0
"""A connection that was idle for longer is not used again: uvicorn closes its own after 5 s, nginx after 75 s."""
READ_BYTES = 1 << 18
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}

LARGEST_ANSWER = 16 << 20
"""Far more than a row's answer can have; what is larger has no end."""
WAY = "a connection for each request from now on: bytes that belong to no answer may come at any time"

log = get_logger("engine")


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unreachable(Exception):
    """No answer: refused, reset, or the connection broke. The engine may be restarting."""


class TooSlow(Exception):
    """No answer within the time that was given."""


class Flight:
    """The connections that carry one call's rows, so that they can be cut when nobody waits for the answers any more.

    A cut connection tells the engine to stop working on its row. `request_id` makes an id for each request, or None.
    """

    def __init__(self, request_id: Callable[[], str | None] = lambda: None) -> None:
        self.stopped = threading.Event()
        self._request_id = request_id
        self._carrying: set[Connection] = set()

    def cut(self) -> None:
        """End all requests now and send no more."""
        self.stopped.set()
        for connection in list(self._carrying):
            _hang_up(connection)

    def headers(self) -> dict[str, str]:
        """For one request: the id under which the engine logs it is told apart from those of the other rows."""
        made = self._request_id()
        return {**HEADERS, "X-Request-Id": made} if made else HEADERS

    def add(self, connection: Connection) -> None:
        self._carrying.add(connection)
        if self.stopped.is_set():
            _hang_up(connection)

    def remove(self, connection: Connection) -> None:
        self._carrying.discard(connection)


class EngineClient:
    """Sends requests to one endpoint. Safe to use from many threads; each request has a connection to itself."""

    def __init__(self, host: str, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.host = host
        self.port = port
        self._clock = clock
        self._idle: deque[tuple[float, Connection]] = deque()
        self._keeps = True

    def send(self, body: bytes, timeout_sec: float, flight: Flight | None = None) -> Reply:
        """Send one chat completion. Raises Unreachable, TooSlow or TooLarge; every HTTP status is a Reply."""
        return self._exchange("POST", CHAT_PATH, body, timeout_sec, flight or Flight())

    def get(self, path: str, timeout_sec: float) -> Reply:
        """Read one page. Raises as `send` does."""
        return self._exchange("GET", path, None, timeout_sec, Flight())

    def close_idle(self, longer_than_sec: float = 0.0) -> None:
        """Close connections that nobody used for so long."""
        oldest = self._clock() - longer_than_sec
        with contextlib.suppress(IndexError):
            while self._idle[0][0] <= oldest:
                self._idle.popleft()[1].close()

    def _exchange(self, method: str, path: str, body: bytes | None, timeout_sec: float, flight: Flight) -> Reply:
        deadline = time.monotonic() + timeout_sec
        connection = self._reusable()
        if connection is not None:
            reply = self._attempt(connection, method, path, body, deadline, flight, reused=True)
            if reply is not None:
                return reply
        connection = Connection(self.host, self.port, min(CONNECT_TIMEOUT_SEC, timeout_sec))
        connection.largest = LARGEST_ANSWER
        try:
            connection.connect()
        except OSError as error:
            raise Unreachable(f"no connection: {type(error).__name__}") from error
        reply = self._attempt(connection, method, path, body, deadline, flight, reused=False)
        if reply is None:
            raise Unreachable("the connection was closed before an answer")
        return reply

    def _attempt(
        self,
        connection: Connection,
        method: str,
        path: str,
        body: bytes | None,
        deadline: float,
        flight: Flight,
        *,
        reused: bool,
    ) -> Reply | None:
        """The reply, or None when a reused connection proved to be closed by the other side before any byte came."""
        flight.add(connection)
        response = None
        whole = False
        try:
            connection.deadline = deadline
            sent = connection.ask(method, path, body, flight.headers())
            response = connection.getresponse()
            headers = cast(Mapping[str, str], response.headers)  # names in any case
            reply = Reply(response.status, headers, _read(response))
            whole = sent
            return reply
        except TooLarge:
            raise
        except TimeoutError as error:
            raise TooSlow("no answer in the time that was left") from error
        except (OSError, http.client.HTTPException) as error:
            closed = isinstance(error, ConnectionError)  # RemoteDisconnected, which says that no byte came, is one
            if reused and closed and response is None and not flight.stopped.is_set():
                return None
            raise Unreachable(type(error).__name__) from error
        finally:
            flight.remove(connection)
            self._put_back(connection, whole and not flight.stopped.is_set())

    def _put_back(self, connection: Connection, whole: bool) -> None:
        if whole and self._keeps_in_step(connection) and connection.sock is not None:
            self._idle.append((self._clock(), connection))
        else:
            connection.close()

    def _reusable(self) -> Connection | None:
        """The connection that was used last: the others may then grow old and be closed."""
        self.close_idle(IDLE_SEC)
        while True:
            try:
                connection = self._idle.pop()[1]
            except IndexError:
                return None
            reusable = connection.is_reusable()
            if self._keeps_in_step(connection) and reusable:
                return connection
            connection.close()

    def _keeps_in_step(self, connection: Connection) -> bool:
        """Whether connections are used again, of which this one may just have shown that they cannot be."""
        if self._keeps and not connection.in_step:
            self._keeps = False
            event(log, "engine.sends_too_much", level=logging.WARNING, host=self.host, port=self.port, way=WAY)
        return self._keeps


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body, also one that trickles in."""
    pieces: list[bytes] = []
    try:
        while response.length != 0:  # None: the length is not known before the end
            piece = response.read1(READ_BYTES)
            if not piece:
                break
            pieces.append(piece)
    finally:
        response.close()  # of the answer only: the connection lives on
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _hang_up(connection: Connection) -> None:
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
