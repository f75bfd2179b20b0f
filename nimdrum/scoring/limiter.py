"""How many rows to keep in flight: the next limit out of the last one and one look at the engine. Pure.

The engine's own queue is the measure: while it is empty and every place was taken, the engine could do more; once
requests wait in it, more rows only wait longer. The window then holds at what runs plus a little, so that a finished
request always finds a successor. Several processes that drive one engine see the same queue: they grow by the same
steps and shrink by the same share, which evens them out.
"""

import math
from dataclasses import dataclass, replace

LEAST_QUEUE = 4
"""Requests that may wait in the engine: they fill the places of those that end before our next rows arrive."""
QUEUE_SHARE = 0.1
PRESSED_SAMPLES = 2
"""A queue counts when it is seen so often in a row: one look may catch a burst that is gone at once."""
FIRST_STEP = 2
OVERLOAD_SHARE = 0.02
COOL_DOWN_SEC = 2.0
LONGEST_CLOSED_SEC = 30.0
ABSORBED_SHARE = 0.5
"""When less than this share of our rows is in the engine, they wait elsewhere (its HTTP front, the network, us)."""
WORTH_IT = 1.05
"""What a larger window must bring in answers a second to be kept, where the queue says nothing."""
PROOF_SEC = 0.3
SETTLED_SEC = 10.0


@dataclass(frozen=True)
class Bounds:
    """Between which limits the window moves: where it starts, and `blind` is what it keeps without metrics."""

    start: int
    blind: int
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


@dataclass(frozen=True)
class State:
    """Where the window stands. `limit` is what counts; while `closed_until_sec` lies ahead nothing new is sent."""

    limit: int
    step: int = 0
    """How much the last growth added; 0 after anything else."""
    sighted: bool = False
    """The engine has shown its queue at least once."""
    was_pressed: bool = False
    """A queue or an overload has been met, so the first fast growth is over."""
    pressed: int = 0
    absorbed: float = 1.0
    cool_until_sec: float = 0.0
    closed_until_sec: float = 0.0
    since_sec: float | None = None
    """Since when the limit is what it is, and `answers` how many came since then."""
    answers: int = 0
    proven_limit: int = 0
    proven_rate: float = 0.0
    settled_until_sec: float = 0.0


def first_state(bounds: Bounds) -> State:
    return State(limit=max(1, min(bounds.start, bounds.ceiling)))


def next_limit(state: State, sample: Sample, bounds: Bounds) -> State:
    """The state after `sample`; its limit lies in 1..bounds.ceiling."""
    state = _remember(state, sample)
    if _overloaded(sample):
        return _halve(state, sample)
    if sample.now_sec < max(state.cool_until_sec, state.closed_until_sec):
        return replace(state, step=0)
    if sample.waiting is None or sample.running is None:
        return state if state.sighted else _blind(state, sample, bounds)
    return _by_queue(replace(state, sighted=True), sample, sample.running, sample.waiting, bounds)


def _remember(state: State, sample: Sample) -> State:
    absorbed = state.absorbed
    if sample.running is not None and sample.waiting is not None and sample.in_flight > 0:
        absorbed = (absorbed + min(1.0, (sample.running + sample.waiting) / sample.in_flight)) / 2
    since = sample.now_sec if state.since_sec is None else state.since_sec
    return replace(state, absorbed=absorbed, since_sec=since, answers=state.answers + sample.answered)


def _overloaded(sample: Sample) -> bool:
    return sample.overloads > OVERLOAD_SHARE * (sample.answered + sample.overloads)


def _halve(state: State, sample: Sample) -> State:
    closed = sample.now_sec + min(sample.retry_after_sec, LONGEST_CLOSED_SEC)
    state = replace(state, step=0, was_pressed=True, closed_until_sec=max(state.closed_until_sec, closed))
    if sample.now_sec < state.cool_until_sec:
        return state  # these failures come from rows that were sent before the last cut
    limit = max(1, min(state.limit, max(1, sample.peak)) // 2)
    return _moved(replace(state, cool_until_sec=sample.now_sec + COOL_DOWN_SEC), limit, sample)


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
    if waiting > room:
        state = replace(state, step=0, pressed=state.pressed + 1)
        if state.pressed < PRESSED_SAMPLES or running <= 0:
            return state
        held = min(state.limit, max(1, sample.in_flight))
        limit = max(1, math.ceil(held * (running + room) / (running + waiting)))
        return _moved(replace(state, was_pressed=True, pressed=0), limit, sample)
    state = replace(state, pressed=0)
    if waiting > 0 or sample.peak < state.limit or state.limit >= bounds.ceiling:
        return replace(state, step=0)
    if state.absorbed < ABSORBED_SHARE:
        return _by_rate(state, sample, bounds)
    return _grown(state, sample, bounds)


def _by_rate(state: State, sample: Sample, bounds: Bounds) -> State:
    """Rows are not in the engine but before it, so its queue tells nothing: does a larger window bring more?"""
    seconds = sample.now_sec - (state.since_sec or 0.0)
    if sample.now_sec < state.settled_until_sec or seconds < PROOF_SEC or state.answers < 2 * state.limit:
        return state
    rate = state.answers / seconds
    if not state.proven_limit or state.limit <= state.proven_limit or rate >= WORTH_IT * state.proven_rate:
        return _grown(replace(state, proven_limit=state.limit, proven_rate=rate), sample, bounds)
    settled = replace(state, step=0, was_pressed=True, settled_until_sec=sample.now_sec + SETTLED_SEC)
    return _moved(settled, state.proven_limit, sample)


def _grown(state: State, sample: Sample, bounds: Bounds) -> State:
    """Twice as many until the first queue; then small steps that double as long as there is still none."""
    step = state.limit if not state.was_pressed else min(state.limit, max(FIRST_STEP, 2 * state.step))
    return replace(_moved(state, min(bounds.ceiling, state.limit + step), sample), step=step)


def _moved(state: State, limit: int, sample: Sample) -> State:
    if limit == state.limit:
        return state
    return replace(state, limit=limit, since_sec=sample.now_sec, answers=0)
