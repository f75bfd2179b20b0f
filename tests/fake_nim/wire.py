"""HTTP/1.1 on an asyncio Protocol: keep-alive, Content-Length bodies, chunked streams, TCP resets.

One request at a time per connection; a pipelined one waits in the buffer. A client that goes away cancels its
handler.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable, Mapping

JSON = "application/json"
HTML = "text/html"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"
MAX_HEAD_BYTES = 65_536


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    keep_alive: bool


@dataclasses.dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


Handler = Callable[[Request, "Connection"], Awaitable["Reply | None"]]
OnAnswer = Callable[[Request, "int | None", bool], None]


class BadRequest(ValueError):
    """Bytes that are not an HTTP/1.1 request this server reads."""


def parse_head(head: bytes) -> tuple[str, str, dict[str, str], bool]:
    """Method, path without query, headers and keep-alive of a request head (without its empty line)."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(first)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(line)
        headers[name.lower()] = value.strip()
    wish = headers.get("connection", "").lower()
    keep_alive = "keep-alive" in wish if parts[2] == "HTTP/1.0" else "close" not in wish
    return parts[0], parts[1].partition("?")[0], headers, keep_alive


def render_head(status: int, content_type: str, headers: Mapping[str, str], server: str, keep_alive: bool) -> bytes:
    """A response head with its empty line."""
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", f"server: {server}", f"content-type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [] if keep_alive else ["connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """One client.

    `on_answer(request, status, complete)` is called before the last byte of an answer is sent, so that
    whoever has the answer finds it noted; with complete=False when it was cut or (status None) never began.
    """

    def __init__(self, handler: Handler, server: str, on_answer: OnAnswer | None = None) -> None:
        self._handler = handler
        self._server = server
        self._on_answer = on_answer
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._request: Request
        self._status: int | None = None
        self._told = False

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    # What a handler may call.

    def send(self, reply: Reply) -> None:
        """Answer whole."""
        self._tell(reply.status, complete=True)
        self._transport.write(self._render(reply))

    def send_half_and_reset(self, reply: Reply) -> None:
        """Send the head and half the body, then reset the connection."""
        payload = self._render(reply)
        self._transport.write(payload[: len(payload) - (len(reply.body) + 1) // 2])
        self.reset()

    def start_stream(self) -> None:
        """Begin a chunked stream of events."""
        headers = {"transfer-encoding": "chunked", "cache-control": "no-cache"}
        self._status = 200
        self._transport.write(render_head(200, EVENTS, headers, self._server, self._request.keep_alive))

    def send_chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would end the stream
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self._tell(200, complete=True)
        self._transport.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """Drop the connection with a TCP reset instead of an orderly end."""
        self._tell(200, complete=False)
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # Inside.

    def _next(self) -> None:
        """Start on the next whole request in the buffer, if there is one."""
        try:
            request = self._take()
        except (BadRequest, ValueError) as error:
            plain = f"bad request: {error}\n".encode(errors="replace")
            head = render_head(400, TEXT, {"content-length": str(len(plain))}, self._server, False)
            self._transport.write(head + plain)
            self._transport.close()
            return
        if request is not None:
            self._request, self._status, self._told = request, None, False
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    def _take(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadRequest("head too long")
            return None
        method, path, headers, keep_alive = parse_head(bytes(self._buffer[:end]))
        if "transfer-encoding" in headers:
            raise BadRequest("send Content-Length, not chunks")
        start, length = end + 4, int(headers.get("content-length", "0"))
        if len(self._buffer) < start + length:
            if headers.get("expect") == "100-continue" and len(self._buffer) == start:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return Request(method, path, headers, body, keep_alive)

    async def _serve(self, request: Request) -> None:
        try:
            reply = await self._handler(request, self)
            if reply is not None:
                self.send(reply)
        except asyncio.CancelledError:
            self._tell(self._status, complete=False)
            raise
        except Exception:
            traceback.print_exc()
            self._transport.abort()
            return
        self._task = None
        if self._transport.is_closing():
            return
        if not request.keep_alive:
            self._transport.close()
        elif self._buffer:
            self._next()

    def _render(self, reply: Reply) -> bytes:
        headers = {**reply.headers, "content-length": str(len(reply.body))}
        keep_alive = self._request.keep_alive
        head = render_head(reply.status, reply.content_type, headers, self._server, keep_alive)
        return head if self._request.method == "HEAD" else head + reply.body

    def _tell(self, status: int | None, complete: bool) -> None:
        if self._on_answer is not None and not self._told:
            self._told = True
            self._on_answer(self._request, status, complete)
