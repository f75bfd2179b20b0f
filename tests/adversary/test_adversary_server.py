"""The same engine behind a real `drum server` (gunicorn with gevent): rows, chats, pass-through, and rude callers."""

import contextlib
import csv
import http.client as http_client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import psutil
import pytest
import requests
from adversary_cases import CASES, EITHER, Case, says
from drum_process import Drum, drum_score, drum_server
from edge_world import READY_SEC, World
from rude_engine import RudeEngine, answer_to, completion, http
from test_adversary_rows import MOST_CONNECTIONS, ROWS_AT_ONCE
from three_checks import Held, check_held, check_rows, held_by, with_connections

pytestmark = [pytest.mark.drum, pytest.mark.xdist_group("adversary server")]

LOOKS = 10
CUT, RAW = 0, 1
"""In the place of a status: the connection was cut; a 200 that is no chat completion."""


class Server:
    """A rude engine behind DRUM, and a caller's ways in."""

    def __init__(self, world: World, drum: Drum, engine: RudeEngine) -> None:
        self.world = world
        self.drum = drum
        self.engine = engine
        self.before = Held(0, 0, 0)

    def score(self, prompts: list[str]) -> pd.DataFrame:
        body = pd.DataFrame({"promptText": prompts}).to_csv(index=False)
        answer = requests.post(f"{self.drum.url}/predict/", files={"X": ("rows.csv", body)}, timeout=READY_SEC)
        assert answer.status_code == 200, answer.text
        extra = answer.json()["extraModelOutput"]
        frame = pd.DataFrame(extra["data"], columns=extra["columns"])
        return frame.assign(resultText=answer.json()["predictions"])

    def chat(self, prompt: str, path: str = "/v1/chat/completions") -> tuple[int, str]:
        ask = {"messages": [{"role": "user", "content": prompt}]}
        try:
            answer = requests.post(self.drum.url + path, json=ask, timeout=READY_SEC)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError) as error:
            return CUT, str(error)
        if answer.status_code != 200:
            return answer.status_code, answer.text
        try:
            return 200, answer.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return RAW, answer.text

    def held(self) -> Held:
        """DRUM's processes and the supervisor."""

        def pids() -> list[int]:
            here = psutil.Process(self.drum.process.pid)
            ours = [here, *here.children(recursive=True), *self.world.processes()]
            return sorted({process.pid for process in ours})

        return held_by(pids)

    def is_well(self) -> None:
        """Health answers, and nothing is held that was not before."""
        assert requests.get(f"{self.drum.url}/health/", timeout=READY_SEC).status_code == 200
        check_held(self.before, self.held)

    def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes, until the server hangs up."""
        where = urlsplit(self.drum.url)
        with socket.create_connection((where.hostname or "", where.port), READY_SEC) as connection:
            connection.sendall(sent)
            answer = b""
            while piece := connection.recv(1 << 16):
                answer += piece
            return answer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: what one case spoils, the next one sees."""
    world = World(tmp_path_factory.mktemp("adversary"), {name: os.environ[name] for name in ("PATH", "HOME")})
    engine = RudeEngine({case.mark: case.do for case in CASES})
    try:
        parameters = {"engine": "external", "DR_NIM_SERVER_PORT": engine.port, "max_concurrency": ROWS_AT_ONCE}
        with drum_server(world, worker_class="gevent", **parameters) as drum:
            drum.wait_health(200)
            made = Server(world, drum, engine)
            for number in range(3):
                made.score([f"row {i} to begin with {number}" for i in range(50)])
                made.chat("to begin with")
            # More than once: a connection of the supervisor's that is just closed may be counted on one side only.
            looks = [with_connections(made.held(), engine.connections, MOST_CONNECTIONS) for _ in range(LOOKS)]
            made.before = max(looks, key=lambda held: held.descriptors)
            yield made
    finally:
        engine.close()
        world.wait_until_empty()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mark)
def test_rows_and_chats(server: Server, case: Case) -> None:
    """What the engine does costs its own rows; chat and pass-through say whose fault it was, and never 500."""
    check_rows(case, server.score)
    for path in ("/v1/chat/completions", "/nim/v1/chat/completions"):
        status, text = server.chat(f"<{case.mark}> chat by {path}", path)
        if path.startswith("/v1"):
            assert case.chat in (status, EITHER), text
        # Pass-through hands on what the engine said, also more headers than `requests` reads, and cuts the connection
        # where the engine did.
        assert status != CUT or case.area == "broken" or case.name.startswith("none behind"), text
        assert status != RAW or "body" in case.area, text
        assert status != 200 or text == f"echo: <{case.mark}> chat by {path}" or case.area in ("bad body", "odd body")
        assert server.chat("the next", path) == (200, "echo: the next")
    server.is_well()


def test_drum_score_writes_one_record_a_row(server: Server, tmp_path: Path) -> None:
    """Whatever ends a line somewhere is in an answer, an error and the reasoning: as many records as rows."""
    ends = ("\r", "\r\r", "\r\n", "\n", "\u2028", "\0")
    for i, end in enumerate(ends):
        server.engine.acts[f"end {i}"] = says(http(completion(f"<think>a{end}b</think>one{end}two")))
        error = json.dumps({"error": {"message": f"a{end}b"}}).encode()
        server.engine.acts[f"error {i}"] = says(http(error, "400 X"))
    prompts = [f"<{kind} {i}>" for i in range(len(ends)) for kind in ("end", "error")]
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("\n".join(["promptText", *prompts]))
    world = World(tmp_path / "world", server.world.environ)
    with drum_score(world, rows, output, engine="external", DR_NIM_SERVER_PORT=server.engine.port) as drum:
        assert drum.exit_code() == 0, drum.printed
    world.wait_until_empty()
    with output.open(newline="", encoding="utf-8") as stream:
        assert len(list(csv.reader(stream))) == 1 + len(prompts)
    assert len(pd.read_csv(output)) == len(prompts)


HEADERS = {
    "a lone carriage return": "X-A: one\rtwo",
    "folded": "X-A: one\r\n two",
    "folded with a tab": "X-A: one\r\n\ttwo",
    "NUL": "X-A: one\0two",
    "a bell": "X-A: one\atwo",
    "bytes": "X-A: \udcff\udcfe",
    "an odd name": "X A: one",
    "no name": ": one",
    "folded type": "Content-Type: application/json;\r\n charset=utf-8",
    "a location that is none": "Location: http://[::1",
    "retry later": "Retry-After: 1\r\n 2",
}
NOT_HTTP = ("a lone carriage return", "an odd name", "no name")


@pytest.mark.parametrize("code", ["200 OK", "429 X", "503 X"])
@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_the_engine(server: Server, name: str, code: str) -> None:
    """What cannot be passed on is left out, and what is no HTTP is no answer; but never our 500."""
    server.engine.acts["header"] = says(lambda asked: http(answer_to(asked), code, HEADERS[name]))
    for path in ("/v1/chat/completions", "/nim/v1/chat/completions"):
        status, text = server.chat("<header>", path)
        assert status == (503 if name in NOT_HTTP else int(code[:3])), text
        assert status != 200 or text == "echo: <header>"
    server.is_well()


HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
REQUESTS = {
    "no chunk size": CHUNKED + b"\r\n\r\n\r\n",
    "a size of letters": CHUNKED + b"\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"\r\n-5\r\nabc\r\n0\r\n\r\n",
    "a size with an underscore": CHUNKED + b"\r\n1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "a chunk that is too short": CHUNKED + b"\r\n5\r\nabcdefgh\r\n0\r\n\r\n",
    "no end of a chunk": CHUNKED + b"\r\n3\r\nabc0\r\n\r\n",
    "chunks and a length": CHUNKED + b"Content-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a length of letters": HEAD + b"Content-Length: abc\r\n\r\nabc",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\nabc",
    "unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/predict/", b"/nim/v1/chat/completions"])
@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_odd_requests(server: Server, sent: bytes, path: bytes) -> None:
    """The caller's fault: a 4xx (or a closed connection), and the next caller is served."""
    answer = server.raw(sent % path)
    assert not answer or answer.split(b" ", 2)[1][:1] == b"4", answer[:300]
    assert server.chat("the next") == (200, "echo: the next")
    server.is_well()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/nim/v1/chat/completions"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_that_is_too_large_is_told(server: Server, path: str, framing: str) -> None:
    """The 413 arrives also where a caller sends all before he reads: nothing is lost to a connection that is reset."""
    where = urlsplit(server.drum.url)
    body = json.dumps({"messages": [{"role": "user", "content": "x" * (80 << 20)}]}).encode()
    pieces = (body[start : start + (1 << 20)] for start in range(0, len(body), 1 << 20))
    with contextlib.closing(http_client.HTTPConnection(where.hostname or "", where.port, READY_SEC)) as caller:
        # By http.client, which gives up when it cannot send; requests would read an answer all the same.
        caller.request("POST", path, body if framing == "length" else pieces, {"Content-Type": "application/json"})
        answer = caller.getresponse()
        told = answer.read().decode()
    assert answer.status == 413
    assert "max_request_mb" in told
    server.is_well()
