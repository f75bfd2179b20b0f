"""How many rows to keep in flight: the next limit out of the last one and one look at the engine. Pure.

Two measures. The engine's own queue: once requests wait in it, more rows only wait longer, so the window holds at what
runs plus a little, and a finished request always finds a successor. And what runs: a window that is large already
grows only while the engine runs most of what is in flight, because the others then wait where no queue shows them, in
its HTTP front.

Several processes that drive one engine see the same queue: with a short one each grows by one row a look, with a long
one each shrinks by the same share, which evens them out (additive increase, multiplicative decrease).
"""

import math
from dataclasses import dataclass, replace

from nimdrum.engines.plan import Bounds

LEAST_QUEUE = 4
"""Requests that may wait in the engine: they take the places of those that end before our next rows arrive."""
QUEUE_SHARE = 0.1
"""Or this share of the requests that it works on."""
PRESSED_AT = 2.0
"""A queue of so many times that size is too long."""
PRESSED_SAMPLES = 2
"""A queue counts when it is seen so often in a row: one look may catch a burst that is gone at once."""
ADMITTING = 1.05
"""An engine that runs so many times what it ran at the last look still takes in new prompts: its queue will shrink."""
FIRST_STEP = 2
OVERLOAD_SHARE = 0.02
MANY_ROWS = 4
"""What fewer rows are told is theirs: each obeys it by itself."""
CLOSING_SHARE = 0.5
"""Of all that happened so much must have been refused before nothing new is sent at all."""
COOL_DOWN_SEC = 2.0
LONGEST_CLOSED_SEC = 30.0
RUNNING_SHARE = 0.5
"""Beyond `Bounds.free` this share of the rows in flight must be seen running. With answers of one token vLLM shows next
to none, since it counts after each step (v1/core/sched/scheduler.py), and its HTTP front is what limits it."""
PATIENCE = 20
"""After so many looks without that the first fast growth is over; before, the engine may still be reading prompts."""


@dataclass(frozen=True)
class Sample:
    """One look: what happened in this process lately, and what the engine's metrics page says now."""

    now_sec: float
    in_flight: int
    peak: int
    """Most in flight since the last look."""
    answered: int
    overloads: int
    """Rows that were told "too much" or "not now" (429, 503, lost connections)."""
    retry_after_sec: float = 0.0
    """The longest wait that the engine asked for."""
    running: float | None = None
    waiting: float | None = None


@dataclass(frozen=True)
class State:
    """Where the window stands. `limit` is what counts; while `closed_until_sec` lies ahead nothing new is sent."""

    limit: int
    step: int = 0
    """How much the last growth added; 0 after anything else."""
    sighted: bool = False
    """The engine has shown its queue at least once."""
    was_pressed: bool = False
    """A queue or an overload has been met, or rows long did not run, so the first fast growth is over."""
    pressed: int = 0
    """How many looks in a row have seen a queue; the most that ran and the least that waited in those."""
    most_running: float = 0.0
    least_waiting: float = 0.0
    behind: int = 0
    """How many looks in a row have seen too few of the rows in flight running."""
    cool_until_sec: float = 0.0
    closed_until_sec: float = 0.0


def first_state(bounds: Bounds) -> State:
    return State(limit=max(1, min(bounds.start, bounds.ceiling)))


def next_limit(state: State, sample: Sample, bounds: Bounds) -> State:
    """The state after `sample`; its limit lies in 1..bounds.ceiling."""
    if is_overloaded(sample):
        return _halve(state, sample)
    if sample.now_sec < max(state.cool_until_sec, state.closed_until_sec):
        return replace(state, step=0)
    if sample.waiting is None or sample.running is None:
        return state if state.sighted else _blind(state, sample, bounds)
    return _by_queue(replace(state, sighted=True), sample, sample.running, sample.waiting, bounds)


def is_overloaded(sample: Sample) -> bool:
    """Whether many rows were told so, and not a few among many answers."""
    return sample.overloads >= max(MANY_ROWS, OVERLOAD_SHARE * (sample.answered + sample.overloads))


def _halve(state: State, sample: Sample) -> State:
    if sample.overloads >= CLOSING_SHARE * (sample.answered + sample.overloads):
        closed = sample.now_sec + min(sample.retry_after_sec, LONGEST_CLOSED_SEC)
        state = replace(state, closed_until_sec=max(state.closed_until_sec, closed))
    state = replace(state, step=0, was_pressed=True)
    if sample.now_sec < state.cool_until_sec:
        return state  # these failures come from rows that were sent before the last cut
    limit = max(1, min(state.limit, max(1, sample.peak)) // 2)
    return replace(state, limit=limit, cool_until_sec=sample.now_sec + COOL_DOWN_SEC)


def _blind(state: State, sample: Sample, bounds: Bounds) -> State:
    """Without metrics: the fixed window, and after a cut back to it step by step."""
    target = max(1, min(bounds.blind, bounds.ceiling))
    if not state.was_pressed:
        return replace(state, limit=target)
    if state.limit >= target or sample.peak < state.limit:
        return state
    return replace(state, limit=min(target, state.limit + max(1, state.limit // 8)))


def _by_queue(state: State, sample: Sample, running: float, waiting: float, bounds: Bounds) -> State:
    if waiting > PRESSED_AT * _room(sample, running, waiting):
        return _by_pressure(state, sample, running, waiting)
    state = replace(state, pressed=0)
    if sample.peak < state.limit or sample.in_flight < state.limit // 2 or state.limit >= bounds.ceiling:
        return replace(state, step=0)
    if waiting > 0:
        return replace(state, step=0, limit=state.limit + 1)
    if state.limit >= bounds.free and running < RUNNING_SHARE * sample.in_flight:
        behind = state.behind + 1
        return replace(state, step=0, behind=behind, was_pressed=state.was_pressed or behind >= PATIENCE)
    step = min(state.limit, max(FIRST_STEP, 2 * state.step)) if state.was_pressed else state.limit
    return replace(state, step=step, limit=min(bounds.ceiling, state.limit + step), behind=0)


def _by_pressure(state: State, sample: Sample, running: float, waiting: float) -> State:
    """A queue: when it is seen again, hold at what runs and a little. All of its looks count, since one may fall
    between the end of many requests and the start of those that follow them."""
    again = state.pressed > 0 and running <= ADMITTING * state.most_running
    running = max(running, state.most_running) if again else running
    waiting = min(waiting, state.least_waiting) if again else waiting
    pressed = state.pressed + 1 if again else 1
    state = replace(state, step=0, pressed=pressed, most_running=running, least_waiting=waiting)
    if state.pressed < PRESSED_SAMPLES or running <= 0:
        return state
    # From what is in flight and not from the limit: a cut takes effect only as requests end.
    too_many = (waiting - _room(sample, running, waiting)) / max(running + waiting, sample.in_flight)
    limit = max(1, min(state.limit, math.ceil(sample.in_flight * (1 - too_many))))
    return replace(state, limit=limit, was_pressed=True, pressed=0)


def _room(sample: Sample, running: float, waiting: float) -> float:
    """How many requests may wait. What does not wait is worked on, also what the engine doesn't count as running."""
    return max(LEAST_QUEUE, QUEUE_SHARE * max(running, sample.in_flight - waiting))
