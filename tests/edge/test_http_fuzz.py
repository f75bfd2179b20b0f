"""Anything that a client may send to the chat and predict routes: no internals in an answer, and the server lives.

A sample by default. All of it, about three minutes:
    NIMDRUM_FUZZ_REQUESTS=10000 pytest tests/edge/test_http_fuzz.py -s
"""

import collections
import http.client
import itertools
import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from drum_process import drum_server
from edge_world import KEY, READY_SEC, World
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.drum, pytest.mark.timeout(1800)]

REQUESTS = int(os.environ.get("NIMDRUM_FUZZ_REQUESTS", "300"))
STACK = re.compile(r'Traceback|File "|\.py\b|line \d+, in|Exception\b|Error\(|0x[0-9a-f]{6,}')
CANARY = re.compile(r"canary-\d+-")
BOUNDARY = "fuzz"

Sent = tuple[str, str, dict[str, str], bytes]
"""Method, path, headers, body."""

numbers = itertools.count()
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3), max_leaves=6
)
canaries = st.builds(lambda: f"canary-{next(numbers)}-")
texts = st.builds(lambda canary, text: canary + text, canaries, st.text(max_size=30))
good = st.fixed_dictionaries({"role": st.just("user"), "content": texts})
odd = st.fixed_dictionaries({"role": st.sampled_from(["system", "tool", ""]) | values, "content": texts | values})
FIELDS = (
    "model n stream temperature max_tokens stop tools tool_choice response_format logprobs stream_options user seed "
    "datarobot_association_id datarobot_metrics extra"
).split()


def few(n: Any) -> dict[str, Any]:
    """The fake engine makes as many choices as it is asked for; a real one refuses millions."""
    return {"n": 2} if isinstance(n, int | float) and n > 5 else {}


chats = st.builds(
    lambda listed, fields: {"messages": listed, **fields, **few(fields.get("n"))},
    st.lists(good, min_size=1, max_size=2) | st.lists(good | odd | values, max_size=3) | values,
    st.just({})
    | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), st.sampled_from([True, "", 1, 3]) | values),
)
json_bodies = (chats | chats | values).map(lambda value: json.dumps(value).encode())
broken = st.builds(lambda body, cut, more: body[:cut] + more, json_bodies, st.integers(0, 60), st.binary(max_size=9))
csv_bodies = st.builds(
    lambda head, rows: "\n".join([head, *rows]).encode("utf-8", "surrogatepass"),
    st.sampled_from(["promptText", "promptText,b", "question", '"promptText"', "\ufeffpromptText", "promptText;b", ""])
    | st.text(max_size=9),
    st.lists(texts | st.text(max_size=9) | texts.map(lambda text: f'"{text}"'), max_size=4),
)
row_bodies = st.lists(st.fixed_dictionaries({"promptText": texts | values}) | values, max_size=3).map(
    lambda rows: json.dumps(rows).encode()
)
bodies = json_bodies | broken | csv_bodies | row_bodies | st.binary(max_size=40)
types = st.sampled_from(
    [
        "application/json",
        "text/csv",
        "text/plain",
        "text/csv; charset=utf-16",
        "text/mtx",
        "",
        "application/octet-stream",
        "application/json; charset=utf-7",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "a/b;;=",
        "*/*",
    ]
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
headers = st.dictionaries(
    st.sampled_from(["X-Request-Id", "Accept", "Via", "traceparent", "X-DataRobot-Consumer-Id", "Cookie"]), header_text
)


@st.composite
def multipart(draw: st.DrawFn) -> tuple[str, bytes]:
    """A form with a file, as DRUM's clients send it, or nearly."""
    name = draw(st.sampled_from(["X", "y", "X.colnames", ""]))
    file = draw(st.sampled_from(['; filename="rows.csv"', '; filename="rows.mtx"', '; filename="rows"', ""]))
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
    end = draw(st.sampled_from([f"\r\n--{BOUNDARY}--\r\n", f"\r\n--{BOUNDARY}\r\n", ""])).encode()
    body = draw(csv_bodies | row_bodies | st.binary(max_size=40) | st.just(b"a" * 600_000))
    return f"multipart/form-data; boundary={BOUNDARY}", part + body + end


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """One request to a chat or predict route."""
    sent = {**draw(headers), "Authorization": f"Bearer {KEY}"}
    if draw(st.booleans()):
        path = draw(st.sampled_from(["/v1/chat/completions", "/chat/completions"]))
        sent["Content-Type"] = "application/json" if draw(st.integers(0, 9)) else draw(types)
        body = draw(json_bodies if draw(st.integers(0, 3)) else bodies)
    else:
        path = draw(st.sampled_from(["/predict/", "/predictions/", "/invocations"]))
        form = draw(st.booleans())
        sent["Content-Type"], body = draw(multipart()) if form else (draw(types), draw(bodies))
    return "POST", path + draw(st.sampled_from(["", "?a=1", "?%00", "?\xff"])), sent, body


def ask(url: str, sent: Sent) -> tuple[int, str]:
    method, path, head, body = sent
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=READY_SEC)
    try:
        connection.putrequest(
            method, path.encode("latin-1", "replace").decode("ascii", "replace").replace("\ufffd", "%FF")
        )
        for name, value in head.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def own(sent: Sent) -> set[str]:
    """The canaries that this request brought."""
    return set(CANARY.findall(sent[3].decode("utf-8", "replace")))


def test_nothing_internal_is_answered_and_the_server_lives(world: World) -> None:
    """Each answer holds only what its own request brought, no answer holds the key, and no 5xx a stack or a prompt."""
    world.fake(line="2.x", answer_tokens=None)
    statuses: collections.Counter[tuple[str, int]] = collections.Counter()
    failures: dict[str, bytes] = {}
    with drum_server(world, worker_class="gevent", max_tokens=64) as drum:
        drum.wait_health(200)

        @settings(
            max_examples=REQUESTS,
            database=None,
            phases=[Phase.generate],  # a smaller case would be sent to a server that the first one has changed
            derandomize=REQUESTS < 10_000,
            suppress_health_check=list(HealthCheck),
        )
        @given(requests())
        def send(sent: Sent) -> None:
            status, text = ask(drum.url, sent)
            statuses[sent[1].partition("?")[0], status] += 1
            assert KEY not in text
            assert set(CANARY.findall(text)) <= own(sent)
            if status >= 500:
                failures.setdefault(text[:300], sent[3][:300])
                assert not STACK.search(text), text
                assert not CANARY.search(text), text

        send()
        for (path, status), count in sorted(statuses.items()):
            print(f"{path:24} {status} {count:6}")
        print(f"{sum(statuses.values())} requests; kinds of 5xx: {failures or 'none'}")
        assert drum.health().status_code == 200  # type: ignore[union-attr]
        chat: dict[str, Any] = {"messages": [{"role": "user", "content": "still there?"}]}
        json_type = {"Content-Type": "application/json"}
        status, text = ask(drum.url, ("POST", "/v1/chat/completions", json_type, json.dumps(chat).encode()))
        assert (status, json.loads(text)["choices"][0]["message"]["content"]) == (200, "echo: still there?")
        status, text = ask(drum.url, ("POST", "/predict/", {"Content-Type": "text/csv"}, b"promptText\nstill there?\n"))
        assert (status, json.loads(text)["predictions"]) == (200, ["echo: still there?"])
        assert len(world.starts()) == 1
