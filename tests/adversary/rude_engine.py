"""An engine on raw sockets: it answers like one, and does to a marked prompt what a test says.

No HTTP library, so that nothing it sends is put right. A prompt like `<late answer> row 7` is marked: the act called
"late answer" is done in place of an answer; every other prompt is answered with `echo: ` and the prompt. Health,
models and metrics are pages that a test may replace.
"""

import contextlib
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

MODEL = "rude/model"
DEADLINE_SEC = 30.0
MARK = re.compile(r"<([^>]*)>")
EARLY = b"<early"
"""An act whose mark begins so is done as soon as the beginning of the body is there."""
HEAD_END = b"\r\n\r\n"
MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
METRICS = b'vllm:num_requests_running{engine="0"} 0\nvllm:num_requests_waiting{engine="0"} 0\n'


@dataclass(frozen=True)
class Asked:
    """One request to the engine."""

    method: str
    path: str
    body: bytes
    prompt: str
    streams: bool
    request_id: str = ""
    time: int = 1
    """How often this prompt was asked, this time included."""

    @property
    def echo(self) -> str:
        return f"echo: {self.prompt}"


Act = Callable[[socket.socket, Asked], None]
"""Sends whatever it likes. An act that raises OSError, or `HangUp`, ends the connection."""


class HangUp(Exception):
    """The act is done with this connection."""


def http(
    body: bytes, status: str = "200 OK", *headers: str, length: bool = True, kind: str = "application/json"
) -> bytes:
    """A whole answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def completion(text: Any, **fields: Any) -> bytes:
    """A chat completion; `fields` replace what it has."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = {"id": "c-1", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}
    return json.dumps({**body, **fields}).encode()


def answer_to(asked: Asked, **fields: Any) -> bytes:
    """The completion that this request is for. Like vLLM's it has the request's id, so its connection is used again."""
    return completion(asked.echo, **{"id": f"chatcmpl-{asked.request_id}", **fields})


def events(text: str, *, end: bool = True) -> bytes:
    """The same as a stream of server-sent events, without the HTTP around it."""
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunk["choices"] = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return b"data: " + json.dumps(chunk).encode() + b"\n\n" + (b"data: [DONE]\n\n" if end else b"")


def good(connection: socket.socket, asked: Asked) -> None:
    """What a well-behaved engine does."""
    connection.sendall(good_answer(asked))


def good_answer(asked: Asked) -> bytes:
    if asked.streams:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: "
        stream = events(asked.echo)
        return head + str(len(stream)).encode() + HEAD_END + stream
    return http(answer_to(asked))


def reset(connection: socket.socket) -> None:
    """End the connection with a reset in the place of an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise HangUp


class RudeEngine:
    """Listens on loopback, a thread for each connection. Ended by `close`, which leaves no thread and no socket."""

    def __init__(self, acts: Mapping[str, Act] | None = None) -> None:
        self.acts = dict(acts or {})
        """What to do by the mark of a prompt."""
        self.pages: dict[str, Act] = {
            "/v1/health/ready": lambda connection, _: connection.sendall(http(b"{}")),
            "/v1/models": lambda connection, _: connection.sendall(http(MODELS)),
            "/metrics": lambda connection, _: connection.sendall(http(METRICS)),
        }
        self.asked: list[Asked] = []
        self.times: Counter[str] = Counter()
        self.accepted = 0
        self.closing = threading.Event()
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="rude-accept", daemon=True)
        self._accepting.start()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open)

    def times_of(self, path: str) -> int:
        """How often it was asked for."""
        return sum(asked.path == path for asked in self.asked)

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(DEADLINE_SEC)
        for connection in list(self._open.values()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_SEC)

    def _accept(self) -> None:
        for number in range(1, 1 << 30):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted = number
            self._open[number] = connection
            thread = threading.Thread(target=self._serve, args=(connection, number), name="rude", daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(DEADLINE_SEC)
        rest = b""
        try:
            while not self.closing.is_set():
                asked, rest = self._read(connection, rest)
                self.times[asked.prompt] += 1
                asked = replace(asked, time=self.times[asked.prompt])
                self.asked.append(asked)
                self._act_for(asked)(connection, asked)
        except (OSError, HangUp):
            pass
        finally:
            connection.close()
            self._open.pop(number, None)  # after it: whoever subtracts these from all descriptors must not miss one

    def _read(self, connection: socket.socket, rest: bytes) -> tuple[Asked, bytes]:
        while HEAD_END not in rest:
            rest += _piece(connection)
        head, _, rest = rest.partition(HEAD_END)
        first, *headers = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
        length = int(named.get("content-length", "0"))
        pieces, held = [rest], len(rest)
        while held < length and not any(EARLY in piece[:4096] for piece in pieces[:2]):
            pieces.append(_piece(connection))
            held += len(pieces[-1])
        body, rest = (whole := b"".join(pieces))[:length], whole[length:]
        prompt, streams = _prompt_of(body)
        return Asked(method, path, body, prompt, streams, named.get("x-request-id", "")), rest

    def _act_for(self, asked: Asked) -> Act:
        if asked.method == "GET":
            return self.pages.get(asked.path, _not_found)
        mark = MARK.match(asked.prompt)
        return self.acts.get(mark[1], good) if mark else good


def _piece(connection: socket.socket) -> bytes:
    piece = connection.recv(1 << 16)
    if not piece:
        raise HangUp
    return piece


def _prompt_of(body: bytes) -> tuple[str, bool]:
    """The last message's content, also of a body that was read in part."""
    try:
        document = json.loads(body)
        return str(document["messages"][-1]["content"]), bool(document.get("stream"))
    except (ValueError, KeyError, IndexError, TypeError):
        found = re.search(rb"<early[^>]*>", body)
        return (found[0].decode() if found else ""), False


def _not_found(connection: socket.socket, asked: Asked) -> None:
    connection.sendall(http(b'{"detail": "Not Found"}', "404 Not Found"))
