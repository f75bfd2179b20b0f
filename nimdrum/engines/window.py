"""How many rows are in flight at one engine: the size that `limiter` finds, and when to look again. Not for threads.

A DRUM process has one for its engine, shared by all calls; the gateway has one for each endpoint.
"""

import time
from collections.abc import Callable

from nimdrum.engines.limiter import Sample, first_state, is_overloaded, next_limit
from nimdrum.engines.plan import Bounds

WARM_SEC = 60.0
FIRST_ROW_SEC = 0.1
COUNTED_SEC = 1.0
"""Rows that are refused within this time count together."""
FINDING_SEC = 0.05
SETTLING_SEC = 0.25
WATCHING_SEC = 1.0
"""Making the page takes vLLM's front 3 to 6 ms, so a look a second costs it well under 1 % of its time."""
LONGEST_POLL_SEC = 3.0
CALMER = 1.5
"""So many times longer is each pause after a look that changed nothing."""
RESERVE = 8
"""One place for so many is kept, beyond the window, for calls of a few rows."""


def bounded(bounds: Bounds, max_concurrency: int, connections: int) -> Bounds:
    """`bounds` as the user limits them; `max_concurrency` 0 means that he does not, a larger one lifts the ceiling.

    Never more than the `connections` that this process can have: each row in flight takes one.
    """
    ceiling = min(max_concurrency or bounds.ceiling, connections)
    return Bounds(min(bounds.start, ceiling), min(bounds.blind, ceiling), min(bounds.free, ceiling), ceiling)


class Window:
    """At most `size` rows at a time. A number instead of bounds is a window that stays as it is."""

    def __init__(self, bounds: Bounds | int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = Bounds(bounds, bounds, bounds, bounds) if isinstance(bounds, int) else bounds
        self._clock = clock
        self._state = first_state(self._bounds)
        self.in_flight = 0
        self._peak = self._answered = 0
        self._refused: set[int] = set()
        self._retry_after_sec = 0.0
        self._counted_from = clock()
        self._done_at: float | None = None
        self._alone_since: float | None = None

    @property
    def size(self) -> int:
        return self._state.limit

    @property
    def is_sighted(self) -> bool:
        """Whether the engine has shown its queue at least once."""
        return self._state.sighted

    @property
    def is_settling(self) -> bool:
        """Whether the next look decides soon: it has just grown by a step, or seen a long queue."""
        return self._state.pressed > 0 or self._state.step > 0

    @property
    def is_finding(self) -> bool:
        """Whether it still looks for its size for the first time."""
        return not self._state.was_pressed and self._state.limit < self._bounds.ceiling

    @property
    def was_full(self) -> bool:
        """Whether all places have been taken at once since the last look."""
        return self._peak >= self._state.limit

    def has_place(self, share: float = 1.0, reserve: bool = False) -> bool:
        """Whether one more row may be sent, within a `share` of the window, or in the places beyond it too.

        To an engine of which nothing is known lately one row goes first, and the crowd when that is done, well or
        badly, or FIRST_ROW_SEC later.
        """
        now = self._clock()
        if now < self._state.closed_until_sec or self._is_first_alone(now):
            return False
        limit = self._state.limit
        if reserve:
            return self.in_flight < min(self._bounds.ceiling, limit + max(1, limit // RESERVE))
        return self.in_flight < max(1, int(limit * share))

    def _is_first_alone(self, now: float) -> bool:
        return self._alone_since is not None and now - self._alone_since < FIRST_ROW_SEC

    def enter(self) -> None:
        """Take a place."""
        now = self._clock()
        if not self.in_flight and (self._done_at is None or now - self._done_at >= WARM_SEC):
            self._alone_since = now
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def leave(self, done: bool = True) -> None:
        """Give it back; with `done` off, because the row waits for something."""
        self.in_flight -= 1
        if done:
            self._done_at, self._alone_since = self._clock(), None

    def note(self, overload: bool, retry_after_sec: float | None = None, row: int = 0) -> None:
        """What one request brought: an answer, or a sign that it was too much. `row` tells rows in flight apart."""
        if overload:
            self._refused.add(row)
            self._retry_after_sec = max(self._retry_after_sec, retry_after_sec or 0.0)
        else:
            self._answered += 1

    def look(self, running: float | None = None, waiting: float | None = None) -> bool:
        """Find the size anew from what happened lately and what the engine says; True if it moved.

        Without figures of an engine that has shown some, only refusals count.
        """
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
        if waiting is not None or not self._state.sighted:
            self._peak = self.in_flight
        if is_overloaded(sample) or sample.now_sec - self._counted_from >= COUNTED_SEC:
            self._answered, self._refused, self._retry_after_sec = 0, set(), 0.0
            self._counted_from = sample.now_sec
        return self._state.limit != before

    def pause_sec(self, moved: bool, took_sec: float, last_sec: float, was_full: bool) -> float:
        """Until the next look at the engine's page, after one that took `took_sec`, `last_sec` after another.

        `was_full` as it was before that look.
        """
        if self.is_finding and was_full:
            return max(FINDING_SEC, took_sec)  # the page of a busy front may take long: half of the time at most
        if moved or self.is_settling:
            return SETTLING_SEC if self.is_settling else WATCHING_SEC
        return min(LONGEST_POLL_SEC, max(WATCHING_SEC, CALMER * last_sec))
