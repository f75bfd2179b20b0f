"""Many rows at once, in threads (which gevent turns into greenlets), results in the order of the rows."""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from nimdrum.base.log import event, get_logger
from nimdrum.scoring.row import Result
from nimdrum.scoring.window import Window

WAKE_SEC = 0.02
TICK_SEC = 0.5
PLACE_WAIT_SEC = 1.0
FIRST_ROW_SEC = 0.1

Row = TypeVar("Row")

log = get_logger("score")


def _spawn(work: Callable[[], None]) -> None:
    # Daemons, because a thread that waits for the engine must not keep the process from ending.
    threading.Thread(target=work, name="nimdrum-row", daemon=True).start()


def run_rows(
    rows: Sequence[Row],
    send: Callable[[Row], Result],
    window: Window,
    stopped: threading.Event,
    done: Callable[[Result], None],
    tick: Callable[[], None],
    spawn: Callable[[Callable[[], None]], None] = _spawn,
) -> list[Result]:
    """`send` every row, at most `window` at a time; one goes first, then the crowd, as the window opens.

    The crowd waits for the first row no longer than FIRST_ROW_SEC, and not at all where the engine has answered
    lately. `done` is told each result and `tick` is called about twice a second, both in the calling thread. When the
    calling thread is interrupted, `stopped` is set and the threads end with the request that they are in.
    Raises what `send` raised, if it did. Where the container allows fewer threads than the window, those send all rows.
    """
    crowd = _Crowd(rows, send, window, stopped, spawn)
    told, ticked = 0, time.monotonic()
    try:
        if rows and not window.is_warm:
            crowd.grow(1)
            crowd.wait_for_first(FIRST_ROW_SEC)
        while told < len(rows):
            crowd.grow(window.size)
            for result in crowd.fresh(WAKE_SEC):
                told += 1
                done(result)
            if time.monotonic() - ticked >= TICK_SEC:
                ticked = time.monotonic()
                tick()
    finally:
        stopped.set()
    return crowd.results()


class _Crowd(Generic[Row]):
    """The threads of one call and what they share.

    What each row touches is atomic without a lock (`next` on an iterator of C, `deque.append`): with a thousand
    threads a lock of our own would be the bottleneck.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        send: Callable[[Row], Result],
        window: Window,
        stopped: threading.Event,
        spawn: Callable[[Callable[[], None]], None],
    ) -> None:
        self._rows = rows
        self._send = send
        self._window = window
        self._stopped = stopped
        self._spawn = spawn
        self._next = iter(range(len(rows)))
        self._finished = itertools.count(1)
        self._threads = 0
        self._told_of_limit = False
        self._wake = threading.Event()
        self._fresh: deque[Result] = deque()
        self._results: list[Result | None] = [None] * len(rows)
        self._error: BaseException | None = None

    def grow(self, size: int) -> None:
        """Have `size` threads, or one for each row when those are fewer, or as many as can be had."""
        for _ in range(min(size, len(self._rows)) - self._threads):
            try:
                self._spawn(self._work)
            except RuntimeError as error:
                # "can't start new thread": a container's limit, which all its processes share.
                if not self._threads:
                    raise
                if not self._told_of_limit:
                    self._told_of_limit = True
                    event(log, "score.threads", level=logging.WARNING, threads=self._threads, wanted=size, error=error)
                return  # the next call tries again
            self._threads += 1

    def wait_for_first(self, timeout_sec: float) -> None:
        deadline = time.monotonic() + timeout_sec
        while not self._fresh and not self._error and (left := deadline - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()

    def fresh(self, timeout_sec: float) -> Iterator[Result]:
        """Results that nobody has seen yet, after a short wait. Raises what a thread raised."""
        self._wake.wait(timeout_sec)
        self._wake.clear()
        if self._error:
            raise self._error
        while self._fresh:
            yield self._fresh.popleft()

    def results(self) -> list[Result]:
        return [result for result in self._results if result is not None]

    def _work(self) -> None:
        try:
            while (index := self._take()) is not None:
                try:
                    result = self._send(self._rows[index])
                finally:
                    self._window.leave()
                self._results[index] = result
                self._fresh.append(result)
                number = next(self._finished)
                if number in (1, len(self._rows)):
                    self._wake.set()
        except BaseException as error:
            self._error = error
            self._wake.set()

    def _take(self) -> int | None:
        """The next row and a place in the window for it, or None when there are no more rows."""
        while not self._stopped.is_set():
            if self._window.enter(PLACE_WAIT_SEC):
                index = next(self._next, None)
                if index is None:
                    self._window.leave()
                return index
        return None
