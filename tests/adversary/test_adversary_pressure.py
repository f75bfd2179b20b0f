"""What one row is told ("too much", "not now") is that row's: only what many rows see holds up the others."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from adversary_cases import status
from http_face import Face
from rude_engine import Asked, RudeEngine, good
from test_adversary_rows import Place

ROWS = 400


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Rows have 12 s: a window that is closed for longer shows in the rows."""
    face = Face(tmp_path, max_concurrency=4, row_timeout_sec=12)
    engine = RudeEngine()
    face.runs(engine)
    made = Place(face, engine)
    made.score(["to begin with"])
    yield made
    face.close()
    engine.close()


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("after_sec", [3600, 11, 1e300, -5])
def test_one_row_that_is_told_to_wait(place: Place, code: int, after_sec: float) -> None:
    """All others are answered as if it were not there."""
    place.engine.acts["wait"] = status(code, f"Retry-After: {after_sec}")
    prompts = [f"row {i}" for i in range(ROWS)]
    prompts[20] = "<wait> row 20"
    answers = place.score(prompts)
    kind = answers["row_error"][20].partition(":")[0]
    assert kind == ("rate_limited" if code == 429 else "engine_error")
    others = answers.drop(20)
    assert others["resultText"].tolist() == [f"echo: row {i}" for i in range(ROWS) if i != 20]
    assert others["latency_sec"].max() < 10


def test_a_row_that_ran_out_of_time_says_what_it_met(place: Place) -> None:
    """It had an answer, an error, before it had to wait for its next turn: that is the reason, not the wait."""
    hold = threading.Event()

    def slow(connection, asked: Asked) -> None:
        hold.wait(14)
        good(connection, asked)

    place.engine.acts |= {"refuse": status(503), "slow": slow}
    prompts = [f"<refuse> {i}" for i in range(4)] + [f"<slow> {i}" for i in range(8)]
    errors = place.score(prompts)["row_error"].tolist()
    hold.set()
    for error in errors[:4]:
        assert "said 503" in error
