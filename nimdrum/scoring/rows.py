"""Many rows at once, each in a greenlet of the loop; results in the order of the rows."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import gevent
from gevent.event import Event

from nimdrum.engines.window import Window
from nimdrum.scoring.budget import Budget
from nimdrum.scoring.part import WHOLE, Part
from nimdrum.scoring.row import Result

TICK_SEC = 0.25
END_SEC = 5.0
FEW_ROWS = 16
"""A call of more is a batch."""

Send = Callable[[int], Result]


class Call:
    """The rows of one call, from whoever asked to the loop and back. `send` is called for each, in the loop."""

    def __init__(
        self,
        rows: int,
        send: Send,
        deadline: float = float("inf"),
        budget: Budget | None = None,
        part: Part = WHOLE,
    ) -> None:
        """After `deadline` (monotonic) or with `budget` over `send` asks nobody: no row waits for a place any more. The
        parts of one batch begin one after the other, as `part` says."""
        self.deadline = deadline
        self.budget = budget or Budget()
        self.part = part
        self.rows = rows
        self.begun = 0
        self.fresh: deque[tuple[int, Result]] = deque()
        """Rows and their results that nobody has taken from here yet."""
        self.finished = threading.Event()
        self.ended = threading.Event()
        self.error: Exception | None = None
        self._send = send
        self._results: list[Result | None] = [None] * rows
        self._done = 0
        self._greenlets: set[gevent.Greenlet] = set()
        self._is_cut = False

    @property
    def under_way(self) -> int:
        """Rows that have begun and are not done: in flight, or away from their place in the window."""
        return self.begun - self._done

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline or self.budget.is_over()

    def begin_next(self, after: Callable[[], None]) -> None:
        """Begin the next row; `after` is called at its end, whatever that is."""
        index, self.begun = self.begun, self.begun + 1
        self.budget.begin()
        gevent.spawn(self._work, index, after)

    def cut(self) -> None:
        """End the rows that are under way, which closes their connections."""
        self._is_cut = True
        gevent.killall(list(self._greenlets), block=False)

    def fail(self, error: Exception) -> None:
        """There are no results, because of `error`."""
        self.error = error
        self.finished.set()

    def results(self) -> list[Result]:
        return [result for result in self._results if result is not None]

    def _work(self, index: int, after: Callable[[], None]) -> None:
        self._greenlets.add(gevent.getcurrent())
        result = None
        try:
            if self._is_cut:  # before this greenlet had its first turn
                return
            result = self._send(index)
            self._results[index] = result
            self.fresh.append((index, result))
            self._done += 1
            if self._done == self.rows:
                self.finished.set()
        except Exception as error:
            self.fail(error)
        finally:
            self._greenlets.discard(gevent.getcurrent())
            self.budget.end(result)
            after()


class Turns:
    """Whose row goes next: the calls take turns, so a small one is not queued behind a batch. Used in the loop."""

    def __init__(self, window: Window, batch_share: float = 1.0) -> None:
        """Batches take at most `batch_share` of the window once it has found its size."""
        self.window = window
        self._batch_share = batch_share
        self._calls: deque[Call] = deque()
        self._returning: deque[Event] = deque()

    def join(self, call: Call) -> None:
        """From now on the rows of `call` are begun as there are places for them."""
        self._calls.append(call)
        self.go()

    def part(self, call: Call) -> None:
        """No more rows of `call` are begun."""
        with suppress(ValueError):
            self._calls.remove(call)

    def go(self) -> None:
        """Begin what may begin now."""
        while self._returning and self.window.has_place():
            self.window.enter()
            self._returning.popleft().set()
        passed = 0
        while passed < len(self._calls):
            call = self._calls[0]
            self._calls.rotate(-1)
            if not self._may_go(call):
                passed += 1
                continue
            passed = 0
            self.window.enter()
            call.begin_next(self._leave)
            if call.begun == call.rows:
                self._calls.pop()
                call.part.begun()

    @contextmanager
    def away(self, deadline: float) -> Iterator[None]:
        """A row leaves its place to others, and waits for one when it comes back, at most until `deadline`."""
        self.window.leave(done=False)
        self.go()
        back = Event()
        try:
            yield
            if not self.window.has_place():
                self._returning.append(back)
                back.wait(max(0.0, deadline - time.monotonic()))
        finally:
            if not back.is_set():  # else `go` has taken a place for it
                with suppress(ValueError):
                    self._returning.remove(back)
                self.window.enter()

    def _leave(self) -> None:
        self.window.leave()
        self.go()

    def _may_go(self, call: Call) -> bool:
        if any(call.part.follows(other.part) for other in self._calls):
            return False
        if call.under_way >= self.window.size:  # some may be away: then so are those that would follow them
            return False
        if call.is_over:
            return True
        if not call.budget.has_room():
            return False
        if call.rows <= FEW_ROWS:
            return self.window.has_place(reserve=True)
        return self.window.has_place(1.0 if self.window.is_finding else self._batch_share)


def run_rows(
    call: Call,
    begin: Callable[[], object],
    end: Callable[[], object],
    in_loop: Callable[[Callable[[], object]], None],
    done: Callable[[int, Result], None],
    tick: Callable[[], None],
) -> list[Result]:
    """Have the rows of `call` sent in the loop, and wait for their results, in order.

    `begin` and `end` are called in the loop; in the calling thread `done` with each row and its result, and `tick` four
    times a second. When that is interrupted, or `tick` raises, the rows under way are cut. Raises what `send` raised.
    """

    def begin_all() -> None:
        try:
            begin()
        except Exception as error:
            call.fail(error)

    def end_all() -> None:
        call.cut()
        end()
        call.ended.set()

    try:
        in_loop(begin_all)
        while not call.finished.wait(TICK_SEC):
            _tell(call, done)
            tick()
    finally:
        in_loop(end_all)
        call.ended.wait(END_SEC)
    if call.error is not None:
        raise call.error
    _tell(call, done)
    return call.results()


def _tell(call: Call, done: Callable[[int, Result], None]) -> None:
    while call.fresh:
        done(*call.fresh.popleft())
