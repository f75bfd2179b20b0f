"""HTTP to the engine for rows: in greenlets of one event loop, connections kept alive, never through a proxy.

A connection is used again only while each answer carries the id of its request, as vLLM's do (`chatcmpl-<id>`): then an
answer that belongs to another request is noticed, whatever the engine or a proxy before it sends and when. For other
engines each request has a connection of its own, which costs about 0.05 ms (docs/decisions/0010).
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gevent import socket

from nimdrum.engines.connection import BadAnswer, Connection, HungUp, TooLarge, header_line, request_head
from nimdrum.engines.wire import CHAT_PATH

CONNECT_TIMEOUT_SEC = 5.0
IDLE_SEC = 3.0
"""A connection that was idle for longer is not used again: uvicorn closes its own after 5 s, nginx after 75 s."""
CHAT_HEAD = request_head("POST", CHAT_PATH, [("Content-Type", "application/json"), ("Accept", "application/json")])
LARGEST_ANSWER = 16 << 20
"""Far more than a row's answer can have; what is larger has no end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unreachable(Exception):
    """No answer: refused, reset, or the connection broke. The engine may be restarting."""


class TooSlow(Exception):
    """No answer within the time that was given."""


class EngineClient:
    """Sends requests to one endpoint, for the greenlets of one loop. A killed greenlet's connection is closed, which
    tells the engine to stop working on its row."""

    def __init__(self, host: str, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._idle: deque[tuple[float, Connection]] = deque()

    def send(self, body: bytes, timeout_sec: float, request_id: str | None = None) -> Reply:
        """Send one chat completion. Raises Unreachable, TooSlow or TooLarge; every HTTP status is a Reply.

        The engine logs it under `request_id`, made unique: vLLM refuses an id that it already works on.
        """
        unique = f"{request_id or 'nimdrum'}-{secrets.token_hex(4)}"
        head = CHAT_HEAD + header_line("X-Request-Id", unique)
        deadline = time.monotonic() + timeout_sec
        connection = self._reusable()
        if connection is not None:
            connection.deadline = deadline
            reply = self._exchange(connection, "POST", head, body, unique, reused=True)
            if reply is not None:
                return reply
        return self._fresh("POST", head, body, unique, deadline)

    def get(self, path: str, timeout_sec: float) -> Reply:
        """Read one page. Raises as `send` does."""
        return self._fresh("GET", request_head("GET", path, ()), None, "", time.monotonic() + timeout_sec)

    def close_idle(self, longer_than_sec: float = 0.0) -> None:
        """Close connections that nobody used for so long."""
        oldest = self._clock() - longer_than_sec
        while self._idle and self._idle[0][0] <= oldest:
            self._idle.popleft()[1].close()

    def _fresh(self, method: str, head: str, body: bytes | None, unique: str, deadline: float) -> Reply:
        timeout_sec = min(CONNECT_TIMEOUT_SEC, max(deadline - time.monotonic(), 0.001))
        try:
            connection = Connection(self._host, self._port, timeout_sec, sockets=socket)
        except OSError as error:
            raise Unreachable(f"no connection: {type(error).__name__}") from error
        connection.deadline = deadline
        connection.largest = LARGEST_ANSWER
        reply = self._exchange(connection, method, head, body, unique, reused=False)
        assert reply is not None  # noqa: S101 - only a reused connection gives None
        return reply

    def _exchange(
        self, connection: Connection, method: str, head: str, body: bytes | None, unique: str, *, reused: bool
    ) -> Reply | None:
        """The reply. None when a reused connection brought none, or one that is not for this request."""
        ours = False
        try:
            connection.send(method, head, body)
            content = connection.read()
            ours = bool(unique) and unique.encode() in content
            if reused and connection.status == 200 and not ours:
                return None
            headers = {name.lower(): value for name, value in connection.headers}
            return Reply(connection.status, headers, content)
        except TooLarge:
            raise
        except TimeoutError as error:
            raise TooSlow("no answer in the time that was left") from error
        except (OSError, BadAnswer) as error:
            if reused and not connection.received and isinstance(error, ConnectionError):
                return None  # closed by the other side just as it was used
            raise Unreachable(str(error) if isinstance(error, HungUp | BadAnswer) else type(error).__name__) from error
        finally:
            if ours and connection.is_kept:
                self._idle.append((self._clock(), connection))
            else:
                connection.close()

    def _reusable(self) -> Connection | None:
        """The connection that was used last: the others may then grow old and be closed."""
        self.close_idle(IDLE_SEC)
        while self._idle:
            connection = self._idle.pop()[1]
            if connection.is_reusable():
                return connection
            connection.close()
        return None
