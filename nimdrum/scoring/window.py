"""How many rows are in flight at once, shared by all calls in this process and moved by `limiter`."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from nimdrum.engines.plan import Bounds
from nimdrum.scoring.limiter import Sample, first_state, is_overloaded, next_limit

WARM_SEC = 60.0
COME_BACK_SEC = 0.5
COUNTED_SEC = 1.0
"""Rows that are refused within this time count together."""


def bounded(bounds: Bounds, max_concurrency: int, connections: int) -> Bounds:
    """`bounds` as the user limits them; `max_concurrency` 0 means that he does not, a larger one lifts the ceiling.

    Never more than the `connections` that this process can have: each row in flight takes one.
    """
    ceiling = min(max_concurrency or bounds.ceiling, connections)
    return Bounds(min(bounds.start, ceiling), min(bounds.blind, ceiling), min(bounds.free, ceiling), ceiling)


class Window:
    """At most `size` holders at a time, first come first served.

    A condition and not a semaphore, so that waiting can be given up and the size can move. A number instead of
    bounds is a window that stays as it is.
    """

    def __init__(self, bounds: Bounds | int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = Bounds(bounds, bounds, bounds, bounds) if isinstance(bounds, int) else bounds
        self._clock = clock
        self._state = first_state(self._bounds)
        self.in_flight = 0
        self._waiters = 0
        self._peak = self._answered = 0
        self._refused: set[int] = set()
        self._retry_after_sec = 0.0
        self._counted_from = clock()
        self._answered_at: float | None = None
        self._free = threading.Condition()

    @property
    def size(self) -> int:
        return self._state.limit

    @property
    def is_warm(self) -> bool:
        """Whether the engine has answered lately, so that nothing speaks against a crowd."""
        return self._answered_at is not None and self._clock() - self._answered_at < WARM_SEC

    @property
    def is_finding(self) -> bool:
        """Whether it still looks for its size for the first time."""
        return not self._state.was_pressed and self._state.limit < self._bounds.ceiling

    def enter(self, timeout_sec: float) -> bool:
        """Take a place; False when none was free within `timeout_sec`."""
        with self._free:
            if self._waiters or not self._has_place():
                self._waiters += 1
                try:
                    if not self._free.wait_for(self._has_place, timeout_sec):
                        return False
                finally:
                    self._waiters -= 1
            self._count_in()
            return True

    def leave(self) -> None:
        with self._free:
            self.in_flight -= 1
            if self._waiters:
                self._free.notify()

    @contextlib.contextmanager
    def away(self, given_up: Callable[[], bool]) -> Iterator[None]:
        """Leave for a while, so that others can go on, and come back; `given_up` is asked while waiting for a place."""
        self.leave()
        try:
            yield
        finally:
            with self._free:
                self._waiters += 1
                while not self._has_place() and not given_up():
                    self._free.wait(COME_BACK_SEC)
                self._waiters -= 1
                self._count_in()

    def note(self, overload: bool, retry_after_sec: float | None = None, row: int = 0) -> None:
        """What one request brought: an answer, or a sign that it was too much. `row` tells rows in flight apart."""
        with self._free:
            if overload:
                self._refused.add(row)
                self._retry_after_sec = max(self._retry_after_sec, retry_after_sec or 0.0)
            else:
                self._answered += 1
                self._answered_at = self._clock()

    def look(self, running: float | None = None, waiting: float | None = None) -> bool:
        """Find the size anew from what happened lately and what the engine says; True if it moved."""
        with self._free:
            sample = Sample(
                self._clock(),
                self.in_flight,
                self._peak,
                self._answered,
                len(self._refused),
                self._retry_after_sec,
                running,
                waiting,
            )
            before, self._state = self._state.limit, next_limit(self._state, sample, self._bounds)
            self._peak = self.in_flight
            if is_overloaded(sample) or sample.now_sec - self._counted_from >= COUNTED_SEC:
                self._answered, self._refused, self._retry_after_sec = 0, set(), 0.0
                self._counted_from = sample.now_sec
            if self._waiters:
                self._free.notify_all()
            return self._state.limit != before

    def _count_in(self) -> None:
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def _has_place(self) -> bool:
        closed = self._state.closed_until_sec
        return self.in_flight < self._state.limit and (not closed or self._clock() >= closed)
