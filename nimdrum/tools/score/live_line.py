"""One line that says how far it is, while everything else scrolls above it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from nimdrum.base.hosting import read_hosting
from nimdrum.scoring.answer import Completion
from nimdrum.scoring.progress import Count
from nimdrum.scoring.row import Result
from nimdrum.session.attach import describe_progress
from nimdrum.supervisor.state import Phase, newest_engine
from nimdrum.tools.screen import Screen

REFRESHES_A_SEC = 4.0
SHOWN_ANSWERS = 10
BAR_WIDTH = 20
WIDEST_ANSWER = 160


class LiveLine:
    """Shows a run on a terminal, and nothing elsewhere. It stands in the place of `scoring.progress.Progress`."""

    def __init__(self, screen: Screen, engine: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        """`engine` says in a few words what the engine does while nothing is sent yet."""
        self._screen = screen
        self._engine = engine
        self._clock = clock
        self._began = clock()
        self.total: int | None = None
        """Rows of all calls together, where that is known."""
        self._rows: int | None = None
        self._passed = 0
        self._counting = threading.Lock()
        self._in_flight: Callable[[], int] = lambda: 0
        self._count, self._shown = Count(), 0
        self._live = Live(
            get_renderable=self._line, console=screen.console, refresh_per_second=REFRESHES_A_SEC, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    def __call__(self, rows: int, in_flight: Callable[[], int], passed: int = 0) -> "LiveLine":
        """A call of so many rows begins, and of `passed` more that are not asked. A model's own `score` may make
        several, and a large file is several."""
        with self._counting:
            self._in_flight = in_flight
            if self.total is None or self._rows is None:
                self._began, self._count, self._passed = self._clock(), Count(), 0
            self._rows = self.total or rows + passed
            self._passed += passed
        return self

    def start(self) -> None:
        if self._screen.console.is_terminal:
            with self._screen.writing:
                self._live.start()

    def stop(self) -> None:
        with self._screen.writing:
            if self._live.is_started:
                self._live.stop()

    def done(self, row: int, result: Result) -> None:
        with self._counting:
            self._count.add(result)
        if self._live.is_started and self._shown < SHOWN_ANSWERS:
            self._shown += 1
            self._show(row, result)

    def tick(self) -> None:
        """Rich looks by itself."""

    def close(self) -> None:
        """The line stays until `stop`: what comes next takes a moment only."""

    def _show(self, row: int, result: Result) -> None:
        answered = isinstance(result, Completion)
        told = " ".join((result.texts[0] if isinstance(result, Completion) else str(result)).split())
        line = Text.assemble((f"row {row + 1:<5}", "bold"), (told, "" if answered else "red"))
        line.truncate(min(self._screen.console.width, WIDEST_ANSWER), overflow="ellipsis")
        with self._screen.writing:
            self._screen.console.print(line, no_wrap=True)

    def _line(self) -> RenderableType:
        width = self._screen.console.width - 1
        seconds = self._clock() - self._began
        if self._rows is None:
            text = f"{self._engine()}  {seconds:.0f} s"
        else:
            text = progress(self._rows, self._count, self._in_flight(), seconds, width, self._passed)
        line = Text(text, no_wrap=True, overflow="ellipsis")
        line.truncate(width, overflow="ellipsis")
        return line


def progress(rows: int, count: Count, in_flight: int, seconds: float, width: int, passed: int = 0) -> str:
    """The line for a terminal of `width` columns: what matters least is left out where there is no room. Of the `rows`
    `passed` are done without being asked for, and `count` are those that were."""
    done = passed + count.done
    rate = count.done / seconds if seconds > 0 else 0.0
    left = "-:--" if not rate else _clock_time((rows - done) / rate)
    parts = [
        f"{done}/{rows} rows",
        f"{count.failed} failed",
        f"{rate:.{1 if rate >= 1 else 2}f} rows/s",
        f"{count.tokens / seconds if seconds > 0 else 0.0:.0f} tokens/s",
        f"{in_flight} in flight",
        f"{left} left",
    ]
    for dispensable in (None, 4, 3, 2):  # places in what is left of `parts`, the last first
        if dispensable is not None:
            del parts[dispensable]
        if len(line := "  ".join(parts)) <= width:
            break
    room = width - len(line) - 2
    if room < BAR_WIDTH // 2 or not rows:
        return line
    filled = min(BAR_WIDTH, room) * done // rows
    return f"{'━' * filled}{'·' * (min(BAR_WIDTH, room) - filled)}  {line}"


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def engine_words(code_dir: Path) -> Callable[[], str]:
    """What the engine that was started last does now, in a few words."""
    root = read_hosting(code_dir, argv=[]).state_root

    def words() -> str:
        newest = newest_engine(root)
        if newest is None:
            return "Getting ready"
        ready = newest.phase is Phase.RUNNING
        return f"{newest.line}: {'ready' if ready else describe_progress(newest)}"

    return words
