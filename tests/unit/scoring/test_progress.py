"""Progress: a bar on a terminal, a log line every ten seconds elsewhere."""

import io
import logging

import pytest

from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.progress import LOG_EVERY_SEC, Progress

GOOD = Completion(("x",), "stop", 5, 40)
UNTOLD = Completion(("x",), "stop", None, None)
BAD = RowFailure("refused", "no", 400)


class Clock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nimdrum")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a progress said: the loop of an earlier test may still watch its engine."""
    return [message for message in caplog.messages if message.startswith("score.")]


def test_a_line_every_ten_seconds(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Rows, failures, rates, rows in flight and the time that is left; between them nothing."""
    stream = io.StringIO()
    progress = Progress(10, lambda: 3, stream, clock)
    progress.done(0, GOOD)
    progress.tick()
    assert said(caplog) == []
    clock.now += LOG_EVERY_SEC
    progress.done(0, BAD)
    progress.tick()
    progress.tick()
    assert said(caplog) == [
        "score.progress rows=2/10 failed=1 rows_per_sec=0.2 tokens_per_sec=4 in_flight=3 seconds_left=40"
    ]
    clock.now += LOG_EVERY_SEC
    progress.tick()
    assert len(said(caplog)) == 2
    assert stream.getvalue() == ""


def test_the_end_is_always_said(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Also of a call that took no time; tokens that were not told count as none."""
    progress = Progress(2, lambda: 0, io.StringIO(), clock)
    progress.done(0, UNTOLD)
    progress.done(0, GOOD)
    clock.now += 4
    progress.close()
    assert said(caplog) == [
        "score.done rows=2/2 failed=0 rows_per_sec=0.5 tokens_per_sec=10 in_flight=0 seconds_left=0"
    ]


def test_no_rows_yet_leave_an_unknown_time(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """No division by zero, at the start and after a long wait."""
    progress = Progress(5, lambda: 5, io.StringIO(), clock)
    progress.close()
    clock.now += 60
    progress.tick()
    assert [message.split()[-1] for message in said(caplog)] == ["seconds_left=unknown", "seconds_left=unknown"]


def test_a_bar_on_a_terminal(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """It shows rows, failures, tokens and rows in flight, and the log only the end."""
    stream = Terminal()
    progress = Progress(4, lambda: 2, stream, clock)
    clock.now += LOG_EVERY_SEC
    for result in (GOOD, BAD):
        progress.done(0, result)
    progress.tick()
    assert said(caplog) == []
    progress.close()
    shown = stream.getvalue()
    assert "2/4" in shown
    assert "failed=1" in shown
    assert "tokens/s=4" in shown
    assert "in flight=2" in shown
    assert len(said(caplog)) == 1
