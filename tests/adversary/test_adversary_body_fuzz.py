"""Bodies that Hypothesis makes up, of at most 100 KB: read or refused with a reason, and cheap either way.

NIMDRUM_FUZZ_BODIES says how many, NIMDRUM_FUZZ_SEED which ones. All of it, in some minutes:
    NIMDRUM_FUZZ_BODIES=10000 pytest tests/adversary/test_adversary_body_fuzz.py -s
"""

import collections
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_face import Face
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from rude_engine import RudeEngine
from three_checks import check_cost

from nimdrum.base.errors import ChatError, HTTPStatusError
from nimdrum.scoring.columns import own_columns, own_of
from nimdrum.scoring.reader import read_rows
from nimdrum.web import chat

pytestmark = pytest.mark.timeout(1800)

SEED = int(os.environ["NIMDRUM_FUZZ_SEED"])
BODIES = int(os.environ.get("NIMDRUM_FUZZ_BODIES", "500"))
LARGEST = 100_000
REFUSED = (400, 413, 415, 422)

# --- Pieces, repeated: what costs more than its size does so because there is much of it ---

SIGNS = '",\n\r;\t[]{}:\\/.-+eE019 \0\ufeff\u2028a\x85é😀'
times = st.integers(1, 4) | st.sampled_from([50, 900, 3000, 6000, 20_000, LARGEST])
scraps = st.text(SIGNS, min_size=1, max_size=6)
raw = st.lists(st.builds(lambda scrap, many: (scrap * many)[:LARGEST], scraps, times), max_size=5).map("".join)
words = st.text(max_size=9) | st.sampled_from(
    ["promptText", "messages", "max_tokens", "temperature", "system_prompt", "a", "a.1", "", "role", "content"]
)


@st.composite
def many_names(draw: st.DrawFn) -> list[str]:
    """Column names, equal ones or as many different ones, short or long."""
    some, many = draw(st.lists(words, min_size=1, max_size=4)), draw(times)
    form = draw(st.sampled_from(["{0}", "{0}{1}", "{0}.{1}", "{1}{0}"]))
    long = draw(st.sampled_from([1, 1, 1, 30, 2000]))
    names = []
    while len(names) < many and sum(map(len, names[-10:])) * len(names) < 20 * LARGEST:
        names.append(form.format(some[len(names) % len(some)] * long, len(names)))
    return names


@st.composite
def tables(draw: st.DrawFn) -> str:
    """CSV, with cells missing and to spare, quoted in all ways."""
    head, cells, many = draw(many_names()), draw(st.lists(scraps | words, max_size=4)), draw(times)
    quote = draw(st.sampled_from(["{}", '"{}"', '"{}', '{}"', '""{}""']))
    line = ",".join(quote.format(cell) for cell in cells) * draw(st.sampled_from([1, 1, 1, 50, 3000]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    return (",".join(head) + end + (line + end) * min(many, 1 + LARGEST // (len(line) + 1)))[:LARGEST]


@st.composite
def nested(draw: st.DrawFn) -> str:
    """A JSON value with something deep, long or many in it."""
    many = draw(times)
    inside = draw(
        raw.map(json.dumps) | st.sampled_from(["1", "null", '"x"', "-", "1e5", '"\\ud800"', '"\\u0000"', "[]"])
    )
    kind = draw(st.sampled_from(["deep list", "deep object", "long list", "long object", "digits", "escapes", "bare"]))
    if kind.startswith("deep"):
        start, end = ("[", "]") if kind == "deep list" else ('{"a":', "}")
        return start * many + inside + end * many
    if kind.startswith("long"):
        many = min(many, 1 + LARGEST // (len(inside) + 1))
        return "[" + ",".join([inside] * many) + "]" if kind == "long list" else _object(many, inside)
    if kind == "digits":
        return draw(st.sampled_from(["", "-", "0."])) + "9" * many + draw(st.sampled_from(["", "e9999", ".5"]))
    return (
        '"' + draw(st.sampled_from(["\\u0041", "\\ud83d", "\\n", '\\"', "\\x"])) * many + '"'
        if kind == "escapes"
        else inside
    )


def _object(many: int, inside: str) -> str:
    return "{" + ",".join(f'"{number}":{inside}' for number in range(many)) + "}"


@st.composite
def records(draw: st.DrawFn) -> str:
    """A JSON array of records: the same, with new names, with few of many names."""
    many, name, value = draw(times), json.dumps(draw(words)), draw(nested())
    form = draw(
        st.sampled_from(
            ["{{{0}:{2}}}", '{{"n{1}":{2}}}', '{{{0}:{2},"n{1}":""}}', "{{}}", '{{"promptText":{2},{0}:0}}']
        )
    )
    many = min(many, 1 + LARGEST // (len(value) + 3))
    return (
        "["
        + ",".join(form.format(name, number, value) for number in range(many))
        + draw(st.sampled_from(["]", "]", "", ",]"]))
    )


@st.composite
def chats(draw: st.DrawFn) -> str:
    """A chat request, or nearly: its messages and one more field."""
    role, content = json.dumps(draw(words)), draw(nested())
    many = min(draw(times), 1 + LARGEST // (len(role) + len(content)))
    message = draw(
        st.sampled_from(
            ['{{"role":"user","content":{1}}}', '{{"role":{0},"content":{1}}}', "{1}", '{{"role":"system"}}']
        )
    )
    listed = "[" + ",".join([message.format(role, content)] * many) + "]"
    field = json.dumps(
        draw(words | st.sampled_from(["n", "model", "stream", "datarobot_association_id", "messages", "stop"]))
    )
    return '{"messages":' + draw(st.sampled_from([listed, listed, content])) + f",{field}:{draw(nested())}" + "}"


@st.composite
def coded(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> bytes:
    coding = draw(st.sampled_from(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-7"]))
    body = draw(texts).encode(coding, "surrogatepass" if coding.startswith("utf-8") else "replace")[:LARGEST]
    return draw(st.sampled_from([b""] * 12 + [b"\xff", b"\xc3", b"\xef\xbb\xbf"])) + body


def fuzz(seen: collections.Counter[str], bodies: st.SearchStrategy[bytes], send: Callable[[bytes], str]) -> None:
    """`send` says what became of a body, and fails where it may not."""

    @seed(SEED)
    @settings(max_examples=BODIES, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies)
    def look(body: bytes) -> None:
        seen[send(body)] += 1

    look()
    print(f"seed {SEED}; " + ", ".join(f"{name} {count}" for name, count in sorted(seen.items())))


def test_rows() -> None:
    """A body of rows becomes a frame or a 4xx, and each row's own settings are read or an error of the row."""

    def read(body: bytes) -> Any:
        try:
            frame = read_rows(body)
        except HTTPStatusError as error:
            assert error.status in REFUSED
            assert len(str(error)) < 10_000
            return None
        own = own_columns(frame, "promptText")
        return frame, [own_of(own, index) for index in range(len(frame))]

    def send(body: bytes) -> str:
        got = check_cost("reading", lambda: read(body))
        if got is None:
            return "refused"
        frame, _ = got
        assert frame.columns.is_unique
        assert all(type(cell) is str for column in frame.columns for cell in frame[column][:50])
        return "read"

    seen: collections.Counter[str] = collections.Counter()
    fuzz(seen, coded(raw | tables() | records() | nested() | chats()), send)
    assert seen["read"] > BODIES // 5
    assert seen["refused"] > BODIES // 20


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Face]:
    face, engine = Face(tmp_path, apply_defaults_to_chat=True, system_prompt="Be brief."), RudeEngine()
    face.runs(engine)
    yield face
    face.close()
    engine.close()


def test_chats(face: Face) -> None:
    """A chat body that is not refused reaches the engine; what is refused has a 4xx and says why."""
    client = face.client()

    def post(body: bytes) -> Any:
        # buffered: as a server does, the answer is closed when it was sent
        return client.post("/v1/chat/completions", data=body, content_type="application/json", buffered=True)

    def send(body: bytes) -> str:
        answer = check_cost("looking at a chat", lambda: post(body))
        if answer.status_code != 200:
            assert answer.status_code in REFUSED
            assert answer.json["error"]["message"]
            return f"refused {answer.status_code}"
        params = json.loads(body)
        if params.get("stream"):
            return "streams"
        try:
            check_cost("asking", lambda: chat.complete(params, face.model))
        except ChatError as error:
            return f"error {error.status}"
        return "answered"

    seen: collections.Counter[str] = collections.Counter()
    fuzz(seen, coded(chats() | chats() | nested() | records() | raw), send)
    assert seen["answered"] > BODIES // 50
    assert seen["refused 400"] > BODIES // 10
