"""One HTTP/1.1 connection to an engine, on its guard, in a thread or (with gevent's sockets) in a greenlet.

llhttp reads the answers. What it does not know is here: interim answers (1xx) are skipped, time and size have an end
also while a head trickles in, and a connection that brought more than one answer for a request is never used again.
"""

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

LARGEST_HEAD = 256 << 10
PIECE_BYTES = 1 << 16
TICK_SEC = 0.25
NO_BODY = (204, 304)
TARGET = re.compile(r"[!-~]+")
NAME = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII)
VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

Headers = list[tuple[str, str]]


class BadAnswer(Exception):
    """What came is not HTTP, or not for us."""


class TooLarge(BadAnswer):
    """The engine sends more than its answer may have."""


class HungUp(ConnectionError):
    """The engine ended the connection before its answer was whole."""


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> str:
    """The first line of a request and `headers`. Raises ValueError for what must not be there."""
    if not TARGET.fullmatch(target):
        raise ValueError("not a request target")
    return f"{method} {target} HTTP/1.1\r\n" + "".join(header_line(name, value) for name, value in headers)


def header_line(name: str, value: str) -> str:
    """Raises ValueError for what must not be in a head."""
    if not NAME.fullmatch(name) or not VALUE.fullmatch(value):
        raise ValueError(f"not a header: {name!r}")
    return f"{name}: {value}\r\n"


class Connection:
    """Connects at once: raises OSError. Every wait ends at `deadline`, on the monotonic clock, with TimeoutError.

    `largest` bounds the bytes of an answer. `tick` is called about four times a second while an answer is awaited, and
    may raise to end that. `sockets` is the module that makes the socket. Used by one thread or greenlet at a time.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeout_sec: float,
        tick: Callable[[], None] | None = None,
        sockets: Any = socket,
    ) -> None:
        self.deadline = time.monotonic() + timeout_sec
        self.largest: int | None = None
        self.status = 0
        self.headers: Headers = []
        """Of the final answer, in the order in which they came."""
        self.received = 0
        """Bytes since the last request."""
        self._host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._tick = tick
        self._ticked = time.monotonic()
        self._in_step = True
        self._parser: Any = None
        self._begin("")
        self._sock = _connect(sockets, host, port, timeout_sec)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None = None) -> None:
        """Send a request. That the engine hangs up before it has read all is no error: it may have answered already.

        Raises ValueError for what must not be in a head, and OSError.
        """
        self.send(method, request_head(method, target, headers), body)

    def send(self, method: str, head: str, body: bytes | None = None) -> None:
        """Send a request with what `request_head` made, once for many. Raises OSError."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        self._begin(method)
        self._sock.settimeout(self._left())
        try:
            self._sock.sendall(f"{head}Host: {self._host}\r\n{length}\r\n".encode("latin-1") + (body or b""))
        except (BrokenPipeError, ConnectionResetError):
            self._in_step = False

    def head(self) -> int:
        """Wait for the head of the answer, which is in `headers` then; its status. Raises as `pieces` does."""
        while not self.status:
            self._receive(LARGEST_HEAD)
        return self.status

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises BadAnswer, TimeoutError, HungUp or another OSError, and what `tick` raises."""
        self.head()
        while True:
            if self._body:
                yield self._take()
            elif self._whole:
                return
            else:
                self._receive(self.largest)

    def read(self) -> bytes:
        """The whole body. Raises as `pieces` does."""
        self.head()
        while not self._whole:
            self._receive(self.largest)
        return self._take()

    def close(self) -> None:
        """Also ends the engine's work on an answer that is not finished."""
        self._in_step = False
        self._parser, self._body = None, bytearray()  # the parser holds this object
        self._sock.close()

    @property
    def is_kept(self) -> bool:
        """Whether both sides keep the connection open after an answer that is whole."""
        return self._whole and self._in_step

    def is_reusable(self) -> bool:
        """Whether it was kept and nothing came since: no bytes, which are nobody's, and no end."""
        if not self.is_kept:
            return False
        self._sock.settimeout(0)
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _begin(self, method: str) -> None:
        self._method = method
        self._parser = HttpResponseParser(self)
        # Folded lines are one line, and an interim answer may say already that the connection will close.
        self._parser.set_dangerous_leniencies(lenient_headers=True, lenient_keep_alive=True)
        self.status, self.headers, self.received = 0, [], 0
        self._body = bytearray()
        self._whole = False
        self._to_the_end = False

    def _take(self) -> bytes:
        body, self._body = bytes(self._body), bytearray()
        return body

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _receive(self, most: int | None) -> None:
        data = self._wait() if self._tick else self._recv(self._left())
        self.received += len(data)
        if not data:
            if not self._to_the_end:
                raise HungUp("it hung up")
            self._whole = True
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._in_step = False
            if not self._whole:
                raise BadAnswer(f"its answer is not HTTP: {error}") from error
        if most is not None and self.received > most and not self._whole:
            raise TooLarge(f"more than {most} bytes")

    def _recv(self, timeout_sec: float) -> bytes:
        self._sock.settimeout(timeout_sec)
        data: bytes = self._sock.recv(PIECE_BYTES)
        return data

    def _wait(self) -> bytes:
        """What comes next. Calls `tick` meanwhile, and also while there is no end of what comes."""
        while True:
            if self._tick and time.monotonic() - self._ticked >= TICK_SEC:
                self._tick()
                self._ticked = time.monotonic()
            left = self._left()
            with suppress(TimeoutError):
                return self._recv(min(left, TICK_SEC))

    # What llhttp tells. After the final answer it may tell of another one, which nobody asked for.

    def on_message_begin(self) -> None:
        if self._whole:
            self._in_step = False

    def on_header(self, name: bytes, value: bytes) -> None:
        text = value.decode("latin-1")
        if not self.status and VALUE.fullmatch(text):  # with a status it is a trailer
            self.headers.append((name.decode("latin-1"), text))

    def on_headers_complete(self) -> None:
        if self.status:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = []
            return
        self.status = status
        framed = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in self.headers)
        self._to_the_end = not framed and status not in NO_BODY
        self._in_step = self._in_step and framed and self._parser.should_keep_alive()
        self._whole = self._method == "HEAD"

    def on_body(self, body: bytes) -> None:
        if not self._whole:
            self._body += body

    def on_message_complete(self) -> None:
        self._whole = self._whole or self.status != 0


def _connect(sockets: Any, host: str, port: int, timeout_sec: float) -> Any:
    """A connected socket. gevent asks a thread for every name, also for what is none: that costs more than the rest."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            break
    else:
        return sockets.create_connection((host, port), timeout_sec)
    sock = sockets.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_sec)
        sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
