"""The live line and what other threads print: `nimdrum.tools.screen`, `nimdrum.tools.score.live_line`."""

import io
import sys
import threading
from collections.abc import Iterator

import pyte
import pytest
from rich.console import Console

from nimdrum.tools.score.live_line import LiveLine
from nimdrum.tools.screen import Screen

WIDTH, LINES = 80, 60


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def shown(written: str) -> list[str]:
    """All lines that a terminal has afterwards, those that went up out of it too."""
    screen = pyte.HistoryScreen(WIDTH, LINES, history=100_000)
    pyte.Stream(screen).feed(written.replace("\n", "\r\n"))
    gone = ["".join(line[column].data for column in range(WIDTH)) for line in screen.history.top]
    return [line.rstrip() for line in (*gone, *screen.display) if line.strip()]


@pytest.mark.usefixtures("restless")
def test_nothing_of_the_line_stays_while_others_print() -> None:
    """Twenty times it comes and goes in the middle of a log; what is said next begins a line."""
    for _ in range(20):
        written, over = io.StringIO(), threading.Event()
        screen = Screen(Console(file=written, force_terminal=True, width=WIDTH), verbose=True)

        def talk(screen: Screen = screen, over: threading.Event = over) -> None:
            while not over.is_set():
                screen.log("a log line")

        talker = threading.Thread(target=talk)
        talker.start()
        line = LiveLine(screen, lambda: "the engine starts")
        line.start()
        line.stop()
        screen.say("Ready")
        over.set()
        talker.join()
        lines = shown(written.getvalue())
        assert set(lines) == {"a log line", "Ready"}
        assert lines.count("Ready") == 1
