"""One connection to the engine: what the engine sends besides an answer never becomes another's answer."""

import contextlib
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from adversary_cases import ENDLESS_CASES, Case, early
from fake_nim.run import wait_for
from http_face import Face
from rude_engine import DEADLINE_SEC, Asked, RudeEngine, completion, good, http
from test_adversary_rows import MOST_CONNECTIONS, ROWS_AT_ONCE, Place
from three_checks import check_held, check_next, held_here, with_connections

from nimdrum.session.client import EngineClient


@pytest.fixture
def engine() -> Iterator[RudeEngine]:
    running = RudeEngine()
    yield running
    running.close()


def ask(client: EngineClient, prompt: str) -> bytes:
    body = b'{"messages": [{"role": "user", "content": "' + prompt.encode() + b'"}]}'
    return client.send(body, DEADLINE_SEC).body


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_late_second_answer_is_nobodys(engine: RudeEngine, size: int) -> None:
    """It comes after the first was read and before the connection is used again."""
    go_on, sent = threading.Event(), threading.Event()

    def late(connection: socket.socket, asked: Asked) -> None:
        good(connection, asked)
        go_on.wait(DEADLINE_SEC)
        connection.sendall(http(completion("of nobody " * size)))
        sent.set()

    engine.acts["late"] = late
    client = EngineClient("127.0.0.1", engine.port)
    assert b"echo: <late> 1" in ask(client, "<late> 1")
    go_on.set()
    assert sent.wait(DEADLINE_SEC) or size > 1  # a large one may not fit before somebody reads it
    for number in range(3):
        assert b"echo: row %d" % number in ask(client, f"row {number}")
    client.close_idle()


def test_an_answer_that_names_another_request_is_not_taken(engine: RudeEngine) -> None:
    """It comes on a used connection while the next answer is awaited; the request is sent again on a fresh one."""

    def crossed(connection: socket.socket, asked: Asked) -> None:
        if asked.time == 1:
            connection.sendall(http(completion("of nobody", id="chatcmpl-nimdrum-00000000")))
        good(connection, asked)

    engine.acts["crossed"] = crossed
    client = EngineClient("127.0.0.1", engine.port, clock=lambda: 0.0)  # no connection grows old
    for number in range(3):
        assert b"echo: row %d" % number in ask(client, f"row {number}")
    assert engine.accepted == 1
    for number in range(3):
        assert b"echo: <crossed> %d" % number in ask(client, f"<crossed> {number}")
        assert b"echo: row %d" % number in ask(client, f"row {number}")
    client.close_idle()


@pytest.fixture
def place(tmp_path, engine: RudeEngine) -> Iterator[Place]:
    face = Face(tmp_path, max_concurrency=ROWS_AT_ONCE, row_timeout_sec=200)
    face.runs(engine)
    made = Place(face, engine)
    made.score([f"row {i} to begin with" for i in range(50)])
    made.before = with_connections(held_here(engine), engine.connections, MOST_CONNECTIONS)
    yield made
    face.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ENDLESS_CASES, ids=lambda case: case.mark)
def test_an_answer_without_an_end_costs_little(place: Place, case: Case) -> None:
    """It is given up at a size that no answer has: of memory that much, and of rows its own."""
    place.engine.acts[case.mark] = case.do
    tracemalloc.start()
    try:
        prompts = ["row 1", f"<{case.mark}> row", "row 2"]
        answers = place.score(prompts)
        status, text = place.chat(f"<{case.mark}> chat")
        assert place.chat(f"<{case.mark}> chat", stream=True)[0] >= 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answers["resultText"].tolist() == ["echo: row 1", "", "echo: row 2"]
    assert answers["row_error"][1].partition(":")[0] in ("bad_answer", "refused", "engine_down"), answers["row_error"][
        1
    ]
    assert 400 <= status < 600, text
    assert peak < 200 << 20
    check_next(case.mark, place.score)
    check_held(place.before, lambda: held_here(place.engine))


@pytest.mark.parametrize("linger", [True, False], ids=["lingering", "closing at once"])
def test_a_refusal_before_the_body_is_read_is_a_refusal(place: Place, linger: bool) -> None:
    """nginx's 413 for a prompt of 20 MB: the row is too large, and the engine is not lost."""
    place.engine.acts["early 413"] = early(413, linger=linger)
    prompt = "<early 413>" + "long " * (4 << 20)
    answers = place.score(["row 1", prompt, "row 2"])
    assert answers["resultText"].tolist() == ["echo: row 1", "", "echo: row 2"]
    assert answers["row_error"][1].startswith("too_large: the request has 20.0 MB, ")
    assert answers["row_error"][1].endswith(": said 413")
    assert answers["attempts"][1] == 1
    assert place.chat(prompt) == (413, "said 413")


@pytest.mark.timeout(120)
def test_no_connection_outlives_its_use(engine: RudeEngine, tmp_path) -> None:
    """Calls that are shorter than a look at the engine do not hide each other: some seconds after the last, all are closed."""
    with contextlib.closing(Face(tmp_path, max_concurrency=ROWS_AT_ONCE)) as face:
        face.runs(engine)
        place = Place(face, engine)
        end, most = time.monotonic() + 6, 0
        while time.monotonic() < end:
            place.score([f"row {i}" for i in range(12)])
            most = max(most, engine.connections)
            threading.Event().wait(0.2)
        assert most
        wait_for(lambda: not engine.connections, DEADLINE_SEC - 5)  # the engine itself would close them later
