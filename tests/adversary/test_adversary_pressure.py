"""What one row is told ("too much", "not now") is that row's: only what many rows see holds up the others."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from adversary_cases import status
from http_face import Face
from rude_engine import Asked, RudeEngine, good
from test_adversary_rows import Place

from nimdrum.engines.limiter import LONGEST_CLOSED_SEC

ROWS = 40


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Rows have 12 s, so that a row that is told to wait for longer is not tried again."""
    face = Face(tmp_path, max_concurrency=4, row_timeout_sec=12)
    engine = RudeEngine()
    face.runs(engine)
    made = Place(face, engine)
    made.score(["to begin with"])
    yield made
    face.close()
    engine.close()


def slowly(connection: socket.socket, asked: Asked) -> None:
    threading.Event().wait(0.3)
    good(connection, asked)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("after_sec", [3600, 1e300])
def test_one_row_that_is_told_to_wait(place: Place, code: int, after_sec: float) -> None:
    """All others are answered as if it were not there: in 3 s, and not in the 30 for which a window may be closed."""
    place.engine.acts |= {"wait": status(code, f"Retry-After: {after_sec}"), "slow": slowly}
    prompts = [f"<slow> row {i}" for i in range(ROWS)]
    prompts[20] = "<wait> row 20"
    began = time.monotonic()
    answers = place.score(prompts)
    took_sec = time.monotonic() - began
    kind = answers["row_error"][20].partition(":")[0]
    assert kind == ("rate_limited" if code == 429 else "engine_error")
    others = answers.drop(20)
    assert others["resultText"].tolist() == [f"echo: <slow> row {i}" for i in range(ROWS) if i != 20]
    assert took_sec < LONGEST_CLOSED_SEC / 2


@pytest.mark.parametrize("code", [429, 503])
def test_what_all_rows_are_told_holds_all_up(place: Place, code: int) -> None:
    """An engine that refuses everything for a while is asked again after that while, and every row is answered."""
    refusing = threading.Event()
    refusing.set()

    def busy(connection: socket.socket, asked: Asked) -> None:
        (status(code, "Retry-After: 2") if refusing.is_set() else good)(connection, asked)

    place.engine.acts["busy"] = busy
    prompts = [f"<busy> row {i}" for i in range(100)]
    opens = threading.Timer(1.0, refusing.clear)
    opens.start()
    answers = place.score(prompts)
    opens.join()
    assert answers["resultText"].tolist() == [f"echo: {prompt}" for prompt in prompts]
    assert len(place.engine.asked) < 2 * len(prompts)
