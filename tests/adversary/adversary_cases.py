"""What an adversary does in the place of an answer, by area, and what has to become of the row and of the chat.

A new case is a line in the table of its area. `row` is "answered" or the kind of error in the column row_error; `chat`
the status of a chat completion. "either" stands where both an answer and an error are right.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rude_engine import HEAD_END, Act, Asked, HangUp, answer_to, completion, good, good_answer, http, reset

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERED = "answered"
EITHER = "either"


@dataclass(frozen=True)
class Case:
    """One act. With `once` it is done to the first request of a row only, the next one is answered."""

    area: str
    name: str
    act: Act
    row: str = ANSWERED
    chat: int | str = 200
    once: bool = False

    @property
    def mark(self) -> str:
        return f"{self.area} {self.name}"

    def do(self, connection: socket.socket, asked: Asked) -> None:
        (good if self.once and asked.time > 1 else self.act)(connection, asked)


def says(answer: bytes | Callable[[Asked], bytes], *, end: bool = False) -> Act:
    """Sends these bytes, and with `end` ends the connection."""

    def act(connection: socket.socket, asked: Asked) -> None:
        connection.sendall(answer if isinstance(answer, bytes) else answer(asked))
        if end:
            raise HangUp

    return act


# --- What comes before and behind an answer ---


def before(*lines: str) -> Act:
    """These heads, each ended by a blank line, and then the answer."""
    return says(lambda asked: b"".join(line.encode() + HEAD_END for line in lines) + good_answer(asked))


def behind(more: bytes | Callable[[Asked], bytes]) -> Act:
    """The answer, and at once these bytes."""
    return says(lambda asked: good_answer(asked) + (more if isinstance(more, bytes) else more(asked)))


def for_ever(piece: bytes, first: bytes = b"") -> Act:
    """Sends until the client hangs up, as fast as it reads."""

    def act(connection: socket.socket, asked: Asked) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)

    return act


INTERIM = {
    "100": before("HTTP/1.1 100 Continue"),
    "102": before("HTTP/1.1 102 Processing"),
    "103": before("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload"),
    "199": before("HTTP/1.1 199 Whatever"),
    "several": before("HTTP/1.1 100 Continue", "HTTP/1.1 102 Processing", "HTTP/1.1 103 Early Hints"),
    "that closes": before("HTTP/1.1 102 Processing\r\nConnection: close"),
    "with a length": before("HTTP/1.1 102 Processing\r\nContent-Length: 1000"),
    "with chunks": before("HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked"),
}
BEHIND = {
    "second answer": behind(lambda asked: http(completion("of nobody"))),
    "second error": behind(lambda asked: http(b"{}", "500 Oops")),
    "large second answer": behind(lambda asked: http(completion("of nobody " * 5000))),
    "late interim": behind(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "blank lines": behind(b"\r\n\r\n"),
    "rubbish": behind(b"\0" * 10_000),
    "half a head": behind(b"HTTP/1.1 200 OK\r\nContent-Le"),
}

# --- Framing ---


def chunked(body: Callable[[bytes], bytes], *headers: str, end: bool = False) -> Act:
    """An answer in chunks, as `body` writes them."""
    head = ("Transfer-Encoding: chunked", *headers)
    return says(lambda asked: http(b"", "200 OK", *head, length=False) + body(answer_to(asked)), end=end)


def one_chunk(body: bytes, size: str = "", trailer: bytes = b"\r\n") -> bytes:
    return (size or f"{len(body):x}").encode() + b"\r\n" + body + b"\r\n0\r\n" + trailer


def in_pieces(connection: socket.socket, asked: Asked) -> None:
    """Each byte is a packet."""
    for byte in good_answer(asked):
        connection.sendall(bytes((byte,)))


def short(connection: socket.socket, asked: Asked) -> None:
    connection.sendall(good_answer(asked)[:-1])
    raise HangUp


def short_and_reset(connection: socket.socket, asked: Asked) -> None:
    connection.sendall(good_answer(asked)[:-1])
    reset(connection)


def half_closed(connection: socket.socket, asked: Asked) -> None:
    connection.sendall(good_answer(asked))
    connection.shutdown(socket.SHUT_WR)


FRAMING_READ = {
    "in pieces": in_pieces,
    "chunks": chunked(one_chunk),
    "chunks with an extension": chunked(lambda body: one_chunk(body, f"{len(body):x};a=b")),
    "chunks with trailers": chunked(lambda body: one_chunk(body, trailer=b"A: b\r\nC: d\r\n\r\n")),
    "no length, then the end": says(lambda asked: http(answer_to(asked), length=False), end=True),
    "HTTP 1.0": says(lambda asked: good_answer(asked).replace(b"HTTP/1.1", b"HTTP/1.0", 1), end=True),
    "closes": says(lambda asked: http(answer_to(asked), "200 OK", "Connection: close"), end=True),
    "closes without a word": says(good_answer, end=True),
    "half closed": half_closed,
    "no reason": says(lambda asked: http(answer_to(asked), "200 ")),
    "lower case": says(lambda asked: good_answer(asked).replace(b"Content-Length", b"content-length")),
    "many headers": says(lambda asked: http(answer_to(asked), "200 OK", *(f"X-{i}: {i}" for i in range(80)))),
    "a folded header": says(lambda asked: http(answer_to(asked), "200 OK", "X-A: b\r\n c")),
    "bytes in a header": says(lambda asked: http(answer_to(asked), "200 OK", "X-A: \udcff\udc80")),
}
FRAMING_BROKEN = {
    "a header without a name": says(lambda asked: http(answer_to(asked), "200 OK", ": b")),
    "nothing": says(b"", end=True),
    "short": short,
    "short and reset": short_and_reset,
    "no status": says(b"hello\r\n\r\n", end=True),
    "status 42": says(b"HTTP/1.1 42 X\r\n\r\n", end=True),
    "status 1000": says(b"HTTP/1.1 1000 X\r\n\r\n", end=True),
    "status of letters": says(b"HTTP/1.1 abc X\r\n\r\n", end=True),
    "HTTP 2": says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", end=True),
    "upgrade": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", end=True),
    "a long length": says(
        lambda asked: http(answer_to(asked) + b" ", length=False).replace(
            b"\r\n\r\n", b"\r\nContent-Length: 9999\r\n\r\n", 1
        ),
        end=True,
    ),
    "chunks of letters": chunked(lambda body: one_chunk(body, "xyz"), end=True),
    "a negative chunk": chunked(lambda body: one_chunk(body, "-5"), end=True),
    "a huge chunk": chunked(lambda body: one_chunk(body, "f" * 40), end=True),
    "chunks without an end": says(CHUNKS + b"5\r\nhello\r\n", end=True),
}


# --- Bodies ---


def body(document: Any) -> Act:
    return says(http(document if isinstance(document, bytes) else json.dumps(document).encode()))


def usage(text: str) -> Act:
    """A good answer with this usage, as it stands."""
    return says(lambda asked: http(answer_to(asked, usage=None).replace(b'"usage": null', f'"usage": {text}'.encode())))


DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES_READ = {
    "huge count": usage('{"completion_tokens": 1' + "0" * 308 + "}"),
    "infinite count": usage('{"completion_tokens": 1e999}'),
    "negative count": usage('{"prompt_tokens": -5, "completion_tokens": -1}'),
    "count of text": usage('{"completion_tokens": "many"}'),
    "usage of a list": usage("[1, 2]"),
    "usage that is true": usage('{"completion_tokens": true}'),
    "nan": usage('{"completion_tokens": NaN}'),
    "unknown fields": says(lambda asked: http(answer_to(asked, **{f"f{i}": i for i in range(1000)}))),
    "byte order mark": says(lambda asked: http(b"\xef\xbb\xbf" + answer_to(asked))),
}
BODIES_BAD = {
    "none behind a thousand headers": says(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000 + b"\r\n", end=True),
    "none behind a long line": says(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n", end=True),
    "none": body(b""),
    "half": body(b'{"choices": [{"mess'),
    "HTML": body(b"<html>Welcome</html>"),
    "a number": body(5),
    "a list": body([]),
    "no choices": body({}),
    "empty choices": body({"choices": []}),
    "choices of text": body({"choices": "abc"}),
    "a choice of null": body({"choices": [None]}),
    "a message of null": body({"choices": [{"message": None}]}),
    "deep": body(DEEP),
    "deep inside": body(b'{"choices": [{"message": {"content": "x", "a": ' + DEEP + b"}}]}"),
    "no UTF-8": body(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "a long number": body(b'{"choices": ' + b"9" * 10_000 + b"}"),
    "compressed": says(http(b"\x1f\x8b\x08\0\0\0\0\0", "200 OK", "Content-Encoding: gzip")),
}
BODIES_ODD = {
    "UTF-16": says(lambda asked: http(answer_to(asked).decode().encode("utf-16"))),
    "content of numbers": body({"choices": [{"message": {"content": 5}}]}),
}

# --- Statuses ---

SERVER_ERRORS = (500, 501, *range(502, 512), *range(520, 531), 598, 599)
REFUSALS = (400, 401, 402, 403, 404, 405, 409, 410, 411, 414, 415, 418, 421, 422, 423, 424, 426, 428, 431, 451, 499)
REDIRECTS = (300, 301, 302, 303, 304, 305, 307, 308, 399)
EMPTY = (201, 202, 203, 205, 206)


def status(code: int, *headers: str) -> Act:
    error = {"error": {"message": f"said {code}", "type": "T", "param": None, "code": code}}
    return says(http(json.dumps(error).encode() if code != 304 else b"", f"{code} X", *headers))


def early(code: int, *, linger: bool) -> Act:
    """Answers before it has read the body, and reads no more; nginx reads on for a while (`linger`)."""

    def act(connection: socket.socket, asked: Asked) -> None:
        status(code, "Connection: close")(connection, asked)
        if linger:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        raise HangUp

    return act


# --- No end ---

KILO = b"x" * 1024
ENDLESS = {
    "body": for_ever(KILO * 64, HEAD + b"\r\n"),
    "body with a length": for_ever(KILO * 64, HEAD + b"Content-Length: 999999999999\r\n\r\n"),
    "chunks": for_ever(b"10000\r\n" + KILO * 64 + b"\r\n", CHUNKS),
    "trailers": for_ever(b"A: b\r\n" * 1000, CHUNKS + b"0\r\n"),
    "interim answers": for_ever(b"HTTP/1.1 102 Processing\r\n\r\n" * 100),
    "continues": for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "headers": for_ever(b"A: b\r\n" * 1000, HEAD),
    "error": for_ever(KILO * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
}


def _table() -> list[Case]:
    cases = [Case("interim", name, act) for name, act in INTERIM.items()]
    cases += [Case("behind", name, act) for name, act in BEHIND.items()]
    cases += [Case("framing", name, act) for name, act in FRAMING_READ.items()]
    cases += [Case("broken", name, act, chat=503, once=True) for name, act in FRAMING_BROKEN.items()]
    cases += [Case("body", name, act) for name, act in BODIES_READ.items()]
    cases += [Case("bad body", name, act, chat=502, once=True) for name, act in BODIES_BAD.items()]
    cases += [Case("odd body", name, act, chat=EITHER, once=True) for name, act in BODIES_ODD.items()]
    cases += [Case("status", str(code), status(code), chat=code, once=True) for code in (408, 429, *SERVER_ERRORS)]
    cases += [Case("status", str(code), status(code), "refused", code) for code in REFUSALS]
    cases += [Case("status", str(code), status(code), "refused", 502) for code in (*EMPTY, *REDIRECTS)]
    cases += [Case("status", str(code), status(code), "refused", 502) for code in (600, 777, 999)]
    cases += [Case("status", "204", says(b"HTTP/1.1 204 No Content\r\n\r\n"), "refused", 502)]
    big = says(http(b'{"error": {"message": "' + KILO * 2000 + b'"}}', "400 Bad Request"))
    cases.append(Case("status", "400 with a large body", big, "refused", 400))
    return cases


def _endless() -> list[Case]:
    return [Case("endless", name, act, "bad_answer", 502) for name, act in ENDLESS.items()]


CASES = _table()
ENDLESS_CASES = _endless()

# --- Streams, for chats only: an event in the place of the second chunk ---

STREAM_ERRORS = {
    "a number as code": ('{"error": {"message": "boom", "code": 503}}', 503),
    "text as code": ('{"error": {"message": "boom", "code": "overloaded"}}', 502),
    "digits as code": ('{"error": {"message": "boom", "code": "429"}}', 429),
    "infinite code": ('{"error": {"message": "boom", "code": 1e999}}', 502),
    "huge code": ('{"error": {"message": "boom", "code": 1' + "0" * 400 + "}}", 502),
    "no code": ('{"error": {"message": "boom"}}', 502),
    "code that is true": ('{"error": {"message": "boom", "code": true}}', 502),
    "code of null": ('{"error": {"message": "boom", "code": null}}', 502),
    "code of a list": ('{"error": {"message": "boom", "code": [1]}}', 502),
    "negative code": ('{"error": {"message": "boom", "code": -1}}', 502),
    "error of text": ('{"error": "boom"}', 502),
    "choices of text": ('{"error": {"message": "boom", "code": 500}, "choices": "abc"}', 500),
}
"""What an event says, and the status of the chat when it is the first one. All say `boom`."""
