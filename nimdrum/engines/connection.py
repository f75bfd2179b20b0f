"""One HTTP connection to an engine, on its guard.

Interim answers (1xx) are skipped, time and size have an end also while a head or a trailer trickles in, and bytes that
belong to no answer are noticed: `http.client` by itself takes 102 and 103 for answers, reads without end, and what is
left on a kept connection becomes the next one's answer.
"""

import http.client
import io
import re
import socket
import time
from contextlib import suppress
from typing import Any

LARGEST_HEAD = 256 << 10
HEAD_LINE = re.compile(rb"HTTP/|[!-9;-~]+:|[ \t]|\r?\n")


class TooLarge(http.client.HTTPException):
    """The engine sends more than its answer may have."""


class Connection(http.client.HTTPConnection):
    """`deadline` is on the monotonic clock and ends each wait, `largest` bounds the bytes of an answer; both may be
    changed while one is read."""

    def __init__(self, host: str, port: int, connect_timeout_sec: float) -> None:
        super().__init__(host, port, timeout=connect_timeout_sec)
        self.deadline: float | None = None
        self.largest: int | None = None
        self.in_step = True
        """Whether the engine has sent one answer for each request; False once there was more."""

    def allow(self) -> float | None:
        """Seconds that are left. Raises TimeoutError."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def ask(self, *request: Any) -> bool:
        """As `request`; False when the engine hung up before it had read all, which it may do once it has answered."""
        self.sock.settimeout(self.allow())
        try:
            self.request(*request)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def is_reusable(self) -> bool:
        """Whether nothing came since the last answer: no bytes, which are nobody's, and no end."""
        if self.sock is None or not self.in_step:
            return False
        self.sock.settimeout(0)
        try:
            self.in_step = not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> "_Response":  # type: ignore[override]
        """How `http.client` makes the answer to a request."""
        return _Response(self, sock, *args, **kwargs)


class _Response(http.client.HTTPResponse):
    def __init__(self, connection: Connection, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._bytes = _Bytes(connection, sock)
        self.fp = _Reader(self._bytes)

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200:
            if self.status == http.client.SWITCHING_PROTOCOLS:
                raise http.client.UnknownProtocol("nobody asked for another one")
            self.headers = None  # type: ignore[assignment]  # so that the next head is read
            super().begin()
        self._bytes.in_head = False


class _Reader(io.BufferedReader):
    """Told to close, it looks whether more has been read than the answer."""

    raw: "_Bytes"

    def readline(self, size: int | None = -1, /) -> bytes:
        """In a head a lone carriage return is a blank (RFC 9112, 2.2), and what is no header is skipped: `http.client`
        loses all headers behind either, the length of the answer among them."""
        line = super().readline(size)
        while self.raw.in_head and line and not HEAD_LINE.match(line):
            line = super().readline(size)
        return line[:-2].replace(b"\r", b" ") + line[-2:] if self.raw.in_head else line

    def close(self) -> None:
        if not self.closed:
            self.raw.at_end = True
            with suppress(OSError, ValueError):
                self.raw.connection.in_step &= not self.peek(1)
        super().close()


class _Bytes(io.RawIOBase):
    """What comes from the socket, as long as there is time and room for more."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.connection = connection
        self.in_head = True
        self.at_end = False
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.at_end:
            return None
        self._sock.settimeout(self.connection.allow())
        count = self._raw.readinto(buffer)
        self._received += count or 0
        most = LARGEST_HEAD if self.in_head else self.connection.largest
        if most is not None and self._received > most:
            raise TooLarge(f"more than {most} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
