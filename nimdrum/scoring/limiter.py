"""How many rows to keep in flight: the next limit out of the last one and one look at the engine. Pure.

Two measures. The engine's own queue: once requests wait in it, more rows only wait longer, so the window holds at what
runs plus a little, and a finished request always finds a successor. And what it brings: while nothing waits, a window
that is large already is made larger only as long as that makes the engine faster, because a server's HTTP front or its
processor may be the limit and no queue shows it.

Several processes that drive one engine see the same queue: with a short one each grows by one row a look, with a long
one each shrinks by the same share, which evens them out (additive increase, multiplicative decrease).
"""

import math
from dataclasses import dataclass, replace

LEAST_QUEUE = 4
"""Requests that may wait in the engine: they fill the places of those that end before our next rows arrive."""
QUEUE_SHARE = 0.1
PRESSED_AT = 2.0
"""A queue of so many times that size is too long."""
PRESSED_SAMPLES = 2
"""A queue counts when it is seen so often in a row: one look may catch a burst that is gone at once."""
ADMITTING = 1.05
"""An engine that runs so many times what it ran at the last look still takes in new prompts: its queue will shrink."""
FIRST_STEP = 2
OVERLOAD_SHARE = 0.02
COOL_DOWN_SEC = 2.0
LONGEST_CLOSED_SEC = 30.0
WORTH_IT = 1.07
"""How much faster the engine must be for a window of twice the size to be kept."""
LAG_SEC = 0.3
"""After a change the engine first reads the new prompts: what it does then proves nothing."""
PROOF_SEC = 0.6
SETTLED_SEC = 30.0


@dataclass(frozen=True)
class Bounds:
    """Between which limits the window moves. It starts at `start`, and up to `free` it needs no proof that more is
    faster; `blind` is what it keeps without metrics."""

    start: int
    blind: int
    free: int
    ceiling: int


@dataclass(frozen=True)
class Sample:
    """One look: what happened in this process since the last one, and what the engine's metrics page says now."""

    now_sec: float
    in_flight: int
    peak: int
    """Most in flight since the last look."""
    answered: int
    overloads: int
    """Answers that mean "too much" or "not now" (429, 503, lost connections)."""
    retry_after_sec: float = 0.0
    """The longest wait that the engine asked for."""
    running: float | None = None
    waiting: float | None = None
    progress: float | None = None
    """Tokens that the engine has made so far, or another number that grows as it works."""


@dataclass(frozen=True)
class State:
    """Where the window stands. `limit` is what counts; while `closed_until_sec` lies ahead nothing new is sent."""

    limit: int
    step: int = 0
    """How much the last growth added; 0 after anything else."""
    sighted: bool = False
    """The engine has shown its queue at least once."""
    was_pressed: bool = False
    """A queue, an overload or a growth for nothing has been met, so the first fast growth is over."""
    pressed: int = 0
    """How many looks in a row have seen a queue; the most that ran and the least that waited in those."""
    most_running: float = 0.0
    least_waiting: float = 0.0
    cool_until_sec: float = 0.0
    closed_until_sec: float = 0.0
    changed_sec: float = 0.0
    """When the limit became what it is."""
    mark_sec: float | None = None
    """Since when the engine's speed at this limit is measured, and where its progress was then."""
    mark: float = 0.0
    answered: int = 0
    """All answers so far: the progress of an engine that tells none."""
    proven_limit: int = 0
    proven_rate: float = 0.0
    settled_until_sec: float = 0.0


def first_state(bounds: Bounds) -> State:
    return State(limit=max(1, min(bounds.start, bounds.ceiling)))


def next_limit(state: State, sample: Sample, bounds: Bounds) -> State:
    """The state after `sample`; its limit lies in 1..bounds.ceiling."""
    state = replace(state, answered=state.answered + sample.answered)
    if _overloaded(sample):
        return _halve(state, sample)
    if sample.now_sec < max(state.cool_until_sec, state.closed_until_sec):
        return replace(state, step=0)
    if sample.waiting is None or sample.running is None:
        return state if state.sighted else _blind(state, sample, bounds)
    return _by_queue(replace(state, sighted=True), sample, sample.running, sample.waiting, bounds)


def _overloaded(sample: Sample) -> bool:
    return sample.overloads > OVERLOAD_SHARE * (sample.answered + sample.overloads)


def _halve(state: State, sample: Sample) -> State:
    closed = sample.now_sec + min(sample.retry_after_sec, LONGEST_CLOSED_SEC)
    state = replace(state, step=0, was_pressed=True, closed_until_sec=max(state.closed_until_sec, closed))
    if sample.now_sec < state.cool_until_sec:
        return state  # these failures come from rows that were sent before the last cut
    limit = max(1, min(state.limit, max(1, sample.peak)) // 2)
    return _moved(replace(state, cool_until_sec=sample.now_sec + COOL_DOWN_SEC, proven_limit=0), limit, sample)


def _blind(state: State, sample: Sample, bounds: Bounds) -> State:
    """Without metrics: the fixed window, and after a cut back to it step by step."""
    target = max(1, min(bounds.blind, bounds.ceiling))
    if not state.was_pressed:
        return _moved(state, target, sample)
    if state.limit >= target or sample.peak < state.limit:
        return state
    return _moved(state, min(target, state.limit + max(1, state.limit // 8)), sample)


def _by_queue(state: State, sample: Sample, running: float, waiting: float, bounds: Bounds) -> State:
    room = max(LEAST_QUEUE, QUEUE_SHARE * running)
    if waiting > PRESSED_AT * room:
        return _by_pressure(state, sample, running, waiting)
    state = replace(state, pressed=0)
    state = replace(state, step=0) if waiting > 0 else state
    if sample.peak < state.limit or sample.in_flight < state.limit // 2:
        return replace(state, step=0, mark_sec=None)  # not used: then its speed says nothing either
    if state.limit >= bounds.ceiling:
        return replace(state, step=0)
    if waiting > 0:
        return _moved(state, state.limit + 1, sample)
    if state.limit < bounds.free:
        return _grown(state, sample, bounds)
    return _by_speed(state, sample, bounds)


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
    room = max(LEAST_QUEUE, QUEUE_SHARE * running)
    limit = max(1, min(state.limit, math.ceil(sample.in_flight * (running + room) / (running + waiting))))
    return _moved(replace(state, was_pressed=True, pressed=0, proven_limit=0), limit, sample)


def _by_speed(state: State, sample: Sample, bounds: Bounds) -> State:
    """Nothing waits in the engine. Was the last growth worth it? Then grow again, else go back and stay for a while."""
    if sample.now_sec < max(state.settled_until_sec, state.changed_sec + LAG_SEC):
        return replace(state, mark_sec=None)
    progress = state.answered if sample.progress is None else sample.progress
    if state.mark_sec is None:
        return replace(state, mark_sec=sample.now_sec, mark=progress)
    seconds, made = sample.now_sec - state.mark_sec, progress - state.mark
    if seconds < PROOF_SEC or made < state.limit:
        return state
    rate = made / seconds
    grew = 0 < state.proven_limit < state.limit
    if not grew or rate >= WORTH_IT * state.proven_rate:
        return _grown(replace(state, proven_limit=state.limit, proven_rate=rate), sample, bounds)
    settled = replace(state, step=0, was_pressed=True, settled_until_sec=sample.now_sec + SETTLED_SEC)
    return _moved(settled, state.proven_limit, sample)


def _grown(state: State, sample: Sample, bounds: Bounds) -> State:
    """Twice as many until the first queue, and where it must pay off; else small steps that double without a queue."""
    fast = not state.was_pressed or state.limit >= bounds.free
    step = state.limit if fast else min(state.limit, max(FIRST_STEP, 2 * state.step))
    limit = state.limit + step
    if state.limit < bounds.free < limit:
        limit = bounds.free  # a growth that needs no proof does not jump over the mark from where it does
    return replace(_moved(state, min(bounds.ceiling, limit), sample), step=step)


def _moved(state: State, limit: int, sample: Sample) -> State:
    if limit == state.limit:
        return state
    return replace(state, limit=limit, changed_sec=sample.now_sec, mark_sec=None)
