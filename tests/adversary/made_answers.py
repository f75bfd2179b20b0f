"""Answers that an engine might send, made by Hypothesis: the bytes piece by piece, and what has to become of the row.

Bodies are written with ECHO in the place of the row's own answer; it is put in before the body is framed.
"""

import itertools
import json
import socket
import threading
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from rude_engine import HEAD_END, MODEL, Asked, HangUp, reset

ECHO = "@the row's own answer@"
ID = "nimdrum-@@@@@@@@"
"""Of the request: it is put in as the answer is sent, and has the length of those that rows have."""
CODINGS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")
NOBODY = "of nobody"
ANSWERED, REFUSED, EITHER = "answered", "refused", "either"
RETRIED = (408, 429, 500, 501, 502, 503, 504, 505, 520, 529, 598, 599)
FINAL = (201, 202, 206, 300, 302, 307, 399, 400, 401, 403, 404, 413, 415, 422, 431, 451, 499, 600, 777, 999)
BODILESS = (204, 304)


def instead(mark: str, text: str, body: bytes) -> bytes:
    """`body` with `text` where the mark is."""
    for coding in CODINGS:
        body = body.replace(mark.encode(coding), text.encode(coding))
    return body


@dataclass(frozen=True)
class Made:
    """One answer. `end` is what the engine does with the connection after it, `must` what the row has to become."""

    pieces: tuple[bytes, ...]
    pause_sec: float
    end: str
    status: int
    must: str
    whole: bool
    """Nothing in it is wrong: this very answer is the one that counts, and no later one."""

    def do(self, connection: socket.socket, asked: Asked) -> None:
        sent = b"".join(self.pieces)
        if len(asked.request_id) == len(ID):
            sent = instead(ID, asked.request_id, sent)
        for start, end in itertools.pairwise(itertools.accumulate(map(len, self.pieces), initial=0)):
            connection.sendall(sent[start:end])
            threading.Event().wait(self.pause_sec)
        if self.end == "reset":
            reset(connection)
        if self.end == "half closed":
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        if self.end != "kept":
            raise HangUp


# --- Bodies ---

TOO_LONG = "9" * 5000
"""Python reads no number of more than 4,300 digits: such an answer is none."""
NUMBERS = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "1e-999",
    "-0",
    "9" * 400,
    "1" + "0" * 308,
    TOO_LONG,
    "0." + "3" * 999,
)
texts = st.text(max_size=12) | st.just(ECHO)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda more: st.lists(more, max_size=3) | st.dictionaries(texts, more, max_size=3), max_leaves=6
)
PLACES = (
    ("choices",),
    ("choices", 0),
    ("choices", 0, "message"),
    ("choices", 0, "message", "content"),
    ("choices", 0, "message", "role"),
    ("choices", 0, "message", "reasoning_content"),
    ("choices", 0, "finish_reason"),
    ("choices", 0, "index"),
    ("usage",),
    ("usage", "completion_tokens"),
    ("usage", "prompt_tokens"),
    ("model",),
    ("id",),
    ("error",),
)
READ = ("choices", "choices 0", "choices 0 message", "choices 0 message content")
"""The places that hold the answer: with something else there it is none."""
ERRORS = ("error", "message", "detail", "code", "param", "type", "object")


def good() -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": ECHO}, "finish_reason": "stop"}
    return {
        "id": f"chatcmpl-{ID}",
        "model": MODEL,
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }


def put(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """`document` with `value` in this place."""
    at = document
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = value
    return document


@st.composite
def written(draw: st.DrawFn, document: Any) -> bytes:
    """A document as JSON, in one of the ways in which it may be written."""
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1])))
    before, behind = draw(st.sampled_from(["", "", "\ufeff", " \n"])), draw(st.sampled_from(["", "\n", " " * 999]))
    return (before + text + behind).encode("utf-8", "surrogatepass")


@st.composite
def completions(draw: st.DrawFn) -> tuple[bytes, str]:
    """A completion with something else in one of its places, and what has to become of it."""
    place = draw(st.sampled_from(PLACES))
    kind = draw(st.integers(0, 3))
    document = put(good(), place, draw(values) if kind else "@@")
    must = EITHER if " ".join(map(str, place)) in READ else ANSWERED
    body = draw(written(document))
    if kind:
        return body, must
    number = draw(st.sampled_from(NUMBERS))
    return body.replace(b'"@@"', number.encode()), EITHER if number == TOO_LONG else must


@st.composite
def deep(draw: st.DrawFn) -> bytes:
    many = draw(st.sampled_from([10, 900, 1100, 30_000]))
    start, inside, end = draw(st.sampled_from([("[", "", "]"), ('{"a":', "1", "}"), ('[{"a":', "1", "}]")]))
    around = draw(st.sampled_from(["@@", '{"choices": @@}', '{"choices": [{"message": {"content": "x", "a": @@}}]}']))
    return around.replace("@@", start * many + inside + end * many).encode()


@st.composite
def cut(draw: st.DrawFn) -> bytes:
    body = json.dumps(good()).encode()
    return body[: draw(st.integers(0, len(body) - 1))]


no_answers = (
    st.binary(max_size=60)
    | cut()
    | deep()
    | values.flatmap(written)
    | st.sampled_from([b"", b"null", b"<html>Welcome</html>", b"Traceback (most recent call last):\n  x", b"\0" * 999])
    | st.sampled_from(["utf-16", "utf-32", "utf-16-be"]).map(lambda coding: json.dumps(good()).encode(coding))
    | st.sampled_from(
        [b"\x1f\x8b\x08\0\0\0\0\0", b"data: {}\n\ndata: [DONE]\n\n", b'{"choices": [' + b"9" * 5000 + b"]}"]
    )
)
errors = st.dictionaries(st.sampled_from(ERRORS), values, max_size=3).flatmap(
    lambda fields: written(fields) | written({"error": fields}) | no_answers
)


# --- Heads ---

names = st.text("abcdefgXYZ-_!#$%&'*+.^`|~09", min_size=1, max_size=12).map(lambda name: "X-" + name)
fine = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
headers = st.builds(lambda name, text: f"{name}: {text}".encode(), names, fine)
INTERIM = (b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </a>", b"199 X")
ODD_INTERIM = (
    b"103 X\r\nContent-Length: 9",
    b"102 X\r\nTransfer-Encoding: chunked",
    b"101 X\r\nUpgrade: h2c",
    b"1000 X",
)
ODD_LINES = (
    b"X-A: one\rtwo",
    b"X-A: one\r\n two",
    b"X-A: one\0two",
    b"X-A: \xff\xfe",
    b"X A: one",
    b": one",
    b"no colon",
    b"\rX-A: one",
    b"X-A : one",
    b"X-A: " + b"a" * 9000,
    b"X-A: " + b"a" * 70_000,
    b"Content-Encoding: gzip",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Retry-After: soon",
    b"Retry-After: -1",
)
FIRST_LINES = (b"HTTP/1.1 %d", b"HTTP/1.1 %d ", b"HTTP/1.1 %d A B \xc3\xa9", b"HTTP/1.0 %d OK")
ODD_FIRST_LINES = (
    b"HTTP/1.1  %d  X",
    b"http/1.1 %d OK",
    b"HTTP/2 %d",
    b"HTTP/1.1%d OK",
    b"HTTP/1.1 0%d OK",
    b"HTTP/1.1 %d.0 OK",
    b"HTTP/1.1 -%d OK",
    b"ICY %d OK",
    b"\0%d",
    b"\r\n\r\nHTTP/1.1 %d OK",
)


# --- Framing: the bytes of an answer without its first line, and whether the reader knows where it ends ---

Framed = tuple[list[bytes], bytes, bool]
"""Head lines, body as it is sent, whether all of it is right."""
CHUNK_FAULTS = ("size", "less", "more", "no line end", "no end", "a bare line feed")


@st.composite
def chunks(draw: st.DrawFn, body: bytes, faults: bool = True) -> tuple[bytes, bool]:
    """`body` in chunks, with at most one fault."""
    cuts = sorted({0, *draw(st.lists(st.integers(1, max(1, len(body) - 1)), max_size=3)), len(body)})
    pieces = [body[start:stop] for start, stop in itertools.pairwise(cuts)]
    size = draw(st.sampled_from([b"%x", b"%X", b"000%x", b"%x;a=b", b'%x;a="b\\"c"']))
    sent = [(size % len(piece), piece, b"\r\n") for piece in pieces if piece]
    last = b"0\r\n" + draw(st.sampled_from([b"", b"", b"A: b\r\nC: d\r\n"])) + b"\r\n"
    fault = draw(st.sampled_from([None, *CHUNK_FAULTS])) if faults else None
    if fault is None or not sent:
        return b"".join(size + b"\r\n" + piece + end for size, piece, end in sent) + last, True
    at = draw(st.integers(0, len(sent) - 1))
    size, piece, end = sent[at]
    wrong = draw(st.sampled_from([b"xyz", b"-5", b"f" * 20, b"", b"0x5", b"1_0", b"+5", b" 5", b"\0"]))
    sent[at] = {
        "size": (wrong, piece, end),
        "less": (b"%x" % max(1, len(piece) - 3), piece, end),
        "more": (b"%x" % (len(piece) + 3), piece, end),
        "no line end": (size, piece, b""),
    }.get(fault, (size, piece, end))
    mark = b"\n" if fault == "a bare line feed" else b"\r\n"
    return b"".join(size + mark + piece + end for size, piece, end in sent) + (
        b"" if fault == "no end" else last
    ), False


@st.composite
def framed(draw: st.DrawFn, body: bytes, faults: bool) -> Framed:
    wrong = ["short", "long", "wrong", "both", "coding"] if faults else []
    way = draw(st.sampled_from(["length"] * 3 + ["chunks"] * 3 + ["end", *wrong]))
    length = b"Content-Length: %d"
    if way == "chunks":
        sent, whole = draw(chunks(body, faults))
        return [draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked"]))], sent, whole
    if way == "short":
        return [length % max(0, len(body) - draw(st.integers(1, 9)))], body, False
    if way == "long":
        return [length % (len(body) + draw(st.sampled_from([1, 1000, 10**12, 10**30])))], body, False
    if way == "wrong":
        wrong = (b"abc", b"-1", b"+%d", b"%d, %d", b"0x%x", b"%d.0", b"", b"%d\r\nContent-Length: 1")
        form = draw(st.sampled_from(wrong))
        return [b"Content-Length: " + form % ((len(body),) * form.count(b"%"))], body, False
    if way == "both":
        sent, _ = draw(chunks(body))
        return [length % len(body), b"Transfer-Encoding: chunked"], sent, False
    if way == "coding":
        coding = draw(
            st.sampled_from([b"gzip", b"identity", b"chunked, chunked", b"gzip, chunked", b"\x0bchunked", b""])
        )
        return [b"Transfer-Encoding: " + coding], body, False
    return ([] if way == "end" else [length % len(body)]), body, way == "length"


BEHIND = (
    b"",
    b"",
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: 59\r\n\r\n" + b'{"choices": [{"message": {"content": "of nobody at all"}}]}',
    b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nof nobody",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"\r\n\r\n",
    b"of nobody " * 999,
)


@st.composite
def made(draw: st.DrawFn, echo: str) -> Made:
    """One answer, with none, one or a few faults."""
    status = draw(st.sampled_from([200] * 30 + [*RETRIED, *FINAL, *BODILESS]))
    if status == 200:
        plain = st.just(good()).flatmap(written).map(lambda body: (body, ANSWERED))
        body, must = draw(plain | plain | completions() | no_answers.map(lambda body: (body, EITHER)))
    else:
        body = b"" if status in BODILESS else draw(errors)
        must = ANSWERED if status in RETRIED else REFUSED
    faults = draw(st.booleans())
    lines, sent, right = draw(framed(instead(ECHO, echo, body), faults))
    odd = draw(st.integers(0, 9)) if faults else 0
    first = draw(st.sampled_from(ODD_FIRST_LINES if odd == 9 else FIRST_LINES)) % status
    lines = draw(st.permutations([*lines, b"Content-Type: application/json", *draw(st.lists(headers, max_size=3))]))
    if odd == 8:
        lines.insert(0, draw(st.sampled_from(ODD_LINES)))
    heads = draw(st.lists(st.sampled_from(INTERIM), max_size=2))
    if odd == 7:
        heads.append(draw(st.sampled_from(ODD_INTERIM)))
    interim = b"".join(b"HTTP/1.1 " + head + HEAD_END for head in heads)
    answer = interim + b"\r\n".join([first, *lines]) + HEAD_END + (b"" if status in BODILESS else sent)
    old = first.startswith(b"HTTP/1.0")  # has no chunks
    right = right and odd < 7 and status not in BODILESS and not (old and b"chunked" in b"".join(lines).lower())
    keeps = right and not old
    end = draw(st.sampled_from([*["kept"] * keeps * 4, "closed", *["half closed"] * keeps, *["reset"] * faults]))
    if faults and draw(st.integers(0, 5)) == 5:
        answer, right = answer[: draw(st.integers(0, len(answer) - 1))], False
        end = "reset" if end == "reset" else "closed"
    elif right:
        answer += draw(st.sampled_from(BEHIND))
    cuts = sorted({0, *draw(st.lists(st.integers(0, len(answer)), max_size=3)), len(answer)})
    pieces = tuple(answer[start:stop] for start, stop in itertools.pairwise(cuts))
    whole = right and end != "reset" and must != EITHER
    if must == REFUSED and not whole:
        must = EITHER
    return Made(pieces, draw(st.sampled_from([0.0, 0.001, 0.003])), end, status, must, whole)
