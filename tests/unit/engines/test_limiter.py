"""`next_limit`: what it does with one look, and where it ends up with engines that exist only as arithmetic."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.engines.limiter import (
    COOL_DOWN_SEC,
    LONGEST_CLOSED_SEC,
    MANY_ROWS,
    PATIENCE,
    PRESSED_SAMPLES,
    Bounds,
    Sample,
    State,
    first_state,
    is_overloaded,
    next_limit,
)

BOUNDS = Bounds(start=32, blind=128, free=256, ceiling=512)
BUSY = Sample(10.0, 64, 64, 10, 0, running=64, waiting=0)
AT_64 = replace(first_state(BOUNDS), limit=64, sighted=True)


def after(state: State, *samples: Sample, bounds: Bounds = BOUNDS) -> State:
    for sample in samples:
        state = next_limit(state, sample, bounds)
    return state


# --- one look ---


def test_it_doubles_while_nothing_waits() -> None:
    """The engine has no queue and every place was taken."""
    assert after(AT_64, BUSY).limit == 128


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(replace(BUSY, peak=63), id="a place was free all the time"),
        pytest.param(replace(BUSY, in_flight=5), id="the call is at its end"),
    ],
)
def test_it_holds(sample: Sample) -> None:
    """Growth needs an empty queue and a window that was really used."""
    assert after(AT_64, sample, sample, sample).limit == 64


def test_with_a_short_queue_it_creeps() -> None:
    """The engine is full; one row more a look, so that processes which share it come to equal windows."""
    short_queue = [replace(BUSY, in_flight=size, peak=size, waiting=1) for size in (64, 65, 66)]
    assert after(AT_64, *short_queue).limit == 67


def test_a_queue_that_the_engine_is_reading_is_none() -> None:
    """While ever more run, the engine takes in what waits: long prompts that came all at once."""
    looks = [replace(BUSY, running=running, waiting=64 - running) for running in (10, 20, 30)]
    assert after(AT_64, *looks).limit == 64
    assert after(AT_64, *looks, looks[-1]).limit == 34


def test_one_look_at_a_queue_is_not_enough() -> None:
    """A burst is gone at the next look; a queue is still there."""
    state = replace(AT_64, limit=128)
    full = replace(BUSY, in_flight=128, peak=128, waiting=64)
    assert after(state, full).limit == 128
    assert after(state, *[full] * PRESSED_SAMPLES).limit == 71  # what runs, and a tenth


def test_a_cut_is_not_made_twice() -> None:
    """Requests that are under way leave the queue only as others end: the same look again changes nothing."""
    full = replace(BUSY, in_flight=512, peak=512, running=256, waiting=256)
    cut = after(replace(AT_64, limit=512), *[full] * PRESSED_SAMPLES)
    assert after(cut, *[full] * 20).limit == cut.limit == 282


def test_after_a_queue_it_grows_by_small_steps() -> None:
    """Which double as long as the queue stays empty."""
    state = replace(AT_64, was_pressed=True)
    limits = []
    for number in range(4):
        state = after(state, replace(BUSY, in_flight=state.limit, peak=state.limit, now_sec=10.0 + number))
        limits.append(state.limit)
    assert limits == [66, 70, 78, 94]


def test_overload_halves_once_in_a_while() -> None:
    """Failures of rows that were sent before the cut do not cut again."""
    overloaded = replace(BUSY, answered=10, overloads=5)
    state = after(AT_64, overloaded)
    assert state.limit == 32
    assert after(state, replace(overloaded, now_sec=10 + COOL_DOWN_SEC / 2)).limit == 32
    assert after(state, replace(overloaded, in_flight=32, peak=32, now_sec=10 + COOL_DOWN_SEC)).limit == 16


def test_no_growth_while_it_cools_down() -> None:
    """An engine that was too busy a moment ago is not pushed again at once."""
    state = after(AT_64, replace(BUSY, overloads=5))
    assert after(state, replace(BUSY, in_flight=32, peak=32, now_sec=10 + COOL_DOWN_SEC / 2)).limit == 32


def test_a_rare_failure_is_no_overload() -> None:
    """One lost connection among hundreds of answers."""
    assert after(AT_64, replace(BUSY, answered=200, overloads=1)).limit == 128


@pytest.mark.parametrize(("asked_sec", "closed_sec"), [(0.0, 0.0), (7.0, 7.0), (3600.0, LONGEST_CLOSED_SEC)])
def test_retry_after_closes_the_window(asked_sec: float, closed_sec: float) -> None:
    """For as long as the engine asked, within reason: each row obeys the whole of it by itself."""
    state = after(AT_64, replace(BUSY, answered=0, overloads=MANY_ROWS, retry_after_sec=asked_sec))
    assert state.closed_until_sec == 10 + closed_sec


@pytest.mark.parametrize("overloads", range(1, MANY_ROWS))
def test_what_few_rows_are_told_is_theirs(overloads: int) -> None:
    """Neither cut nor closed, also when nothing was answered meanwhile: each of them waits by itself."""
    state = after(AT_64, replace(BUSY, answered=0, overloads=overloads, retry_after_sec=3600))
    assert (state.limit, state.closed_until_sec) == (128, 0.0)


def test_it_is_cut_and_not_closed_while_most_are_answered() -> None:
    """What asks for a pause is a part of the rows; the others must not wait for it."""
    state = after(AT_64, replace(BUSY, answered=20, overloads=10, retry_after_sec=7))
    assert (state.limit, state.closed_until_sec) == (32, 0.0)


def test_without_metrics_it_is_fixed() -> None:
    """At once; after a cut it comes back step by step."""
    unseen = replace(BUSY, running=None, waiting=None)
    assert after(first_state(BOUNDS), unseen).limit == BOUNDS.blind
    state = after(first_state(BOUNDS), unseen, replace(unseen, overloads=50, in_flight=128, peak=128))
    assert state.limit == 64
    later = [replace(unseen, now_sec=20.0 + i, in_flight=128, peak=128) for i in range(30)]
    assert after(state, later[0]).limit == 72
    assert after(state, *later).limit == BOUNDS.blind


def test_metrics_that_fail_once_change_nothing() -> None:
    """The engine is too busy to show its page."""
    state = replace(AT_64, limit=300)
    assert after(state, replace(BUSY, running=None, waiting=None)).limit == 300


@pytest.mark.parametrize(("running", "limit"), [(300, 512), (3, 256)], ids=["most run", "they wait in the HTTP front"])
def test_a_large_window_grows_only_while_its_rows_run(running: int, limit: int) -> None:
    """Answers of one token: vLLM counts next to none of them as running, and no queue shows that its front is full."""
    full = replace(BUSY, in_flight=256, peak=256, running=running)
    assert after(replace(AT_64, limit=256), full).limit == limit


def test_rows_that_run_a_little_later_are_waited_for() -> None:
    """The engine first reads the prompts. Only when they do not run for long, the fast growth is over."""
    full = replace(BUSY, in_flight=256, peak=256, running=300)
    behind = replace(full, running=3)
    state = replace(AT_64, limit=256)
    assert after(state, *[behind] * (PATIENCE - 1), full).limit == 512
    assert after(state, *[behind] * PATIENCE, full).limit == 258


def test_what_the_engine_does_not_count_is_not_cut() -> None:
    """20 of 40 wait and one runs; 19 are in the step that it makes: only the queue is cut, to its 4."""
    prefill = replace(BUSY, in_flight=40, peak=40, running=1, waiting=20)
    assert after(AT_64, *[prefill] * PRESSED_SAMPLES).limit == 24


SAMPLES = st.builds(
    Sample,
    now_sec=st.floats(0, 1e6),
    in_flight=st.integers(0, 2000),
    peak=st.integers(0, 2000),
    answered=st.integers(0, 10_000),
    overloads=st.integers(0, 100),
    retry_after_sec=st.floats(0, 1e6),
    running=st.none() | st.floats(0, 1e5),
    waiting=st.none() | st.floats(0, 1e5),
)


@settings(max_examples=300)
@given(st.lists(SAMPLES, max_size=30), st.integers(1, 4096))
def test_it_never_leaves_its_bounds(samples: list[Sample], ceiling: int) -> None:
    """Whatever is seen: at least one row, never more than the user or the engine allows."""
    bounds = Bounds(min(32, ceiling), min(128, ceiling), min(256, ceiling), ceiling)
    state = first_state(bounds)
    for sample in samples:
        before, state = state, next_limit(state, sample, bounds)
        assert 1 <= state.limit <= ceiling
        assert state.closed_until_sec <= max(before.closed_until_sec, sample.now_sec + LONGEST_CLOSED_SEC)
        if is_overloaded(sample):
            assert state.limit <= before.limit


# --- an engine made of arithmetic ---


class Engine:
    """`slots` requests run together; a step makes one token for each of them and takes `step_sec(running)`."""

    def __init__(self, slots: int, tokens: int, step_sec: Callable[[int], float]) -> None:
        self.slots, self.tokens, self.step_sec = slots, tokens, step_sec
        self.running: list[list[float]] = []
        self.waiting: list[int] = []

    def step(self, seconds: float) -> list[int]:
        """Let time pass; the clients whose requests ended."""
        tokens = seconds / self.step_sec(max(1, len(self.running)))
        for job in self.running:
            job[0] -= tokens
        ended = [int(job[1]) for job in self.running if job[0] <= 0]
        self.running = [job for job in self.running if job[0] > 0]
        while self.waiting and len(self.running) < self.slots:
            self.running.append([self.tokens, self.waiting.pop(0)])
        return ended


class Client:
    """Keeps as many requests with the engine as its limit allows, for ever."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.state = first_state(bounds)
        self.in_flight = self.peak = self.answered = self.done = 0

    def look(self, now: float, engine: Engine) -> None:
        sample = Sample(now, self.in_flight, self.peak, self.answered, 0, 0.0, len(engine.running), len(engine.waiting))
        self.state = next_limit(self.state, sample, self.bounds)
        self.peak, self.answered = self.in_flight, 0


def simulate(engine: Engine, clients: list[Client], seconds: float) -> list[int]:
    """Rows of each client that were answered in the second half of the time."""
    now, halfway = 0.0, None
    while now < seconds:
        now = round(now + 0.01, 2)
        for number, client in enumerate(clients):
            engine.waiting += [number] * (client.state.limit - client.in_flight)
            client.in_flight = max(client.in_flight, client.state.limit)
            client.peak = max(client.peak, client.in_flight)
        for number in engine.step(0.01):
            clients[number].in_flight -= 1
            clients[number].answered += 1
            clients[number].done += 1
        for number, client in enumerate(clients):
            if round(100 * now) % 25 == 7 * number:
                client.look(now, engine)
        if halfway is None and now >= seconds / 2:
            halfway = [client.done for client in clients]
    return [client.done - was for client, was in zip(clients, halfway or [], strict=True)]


@pytest.mark.parametrize("slots", [8, 64, 256])
@pytest.mark.parametrize("tokens", [4, 32])
def test_it_fills_the_engine_and_no_more(slots: int, tokens: int) -> None:
    """Within 5 % of all that the engine can do, with a short queue."""
    engine, client = Engine(slots, tokens, lambda running: 0.02), Client(BOUNDS)
    done = simulate(engine, [client], 16)[0]
    assert done >= 0.95 * slots * 8 / (0.03 + 0.02 * tokens)  # a row takes up to two steps of the simulation more
    assert client.state.limit <= slots + max(
        10, slots * 3 // 8
    )  # twice the queue that is wanted, and what is between two looks


@pytest.mark.parametrize("others", [1, 3])
def test_several_share_fairly(others: int) -> None:
    """One process has the engine, others come later: in the end none has less than 70 % of its share."""
    engine = Engine(64, 64, lambda running: 0.02)
    clients = [Client(BOUNDS) for _ in range(1 + others)]
    simulate(engine, clients[:1], 4)
    done = simulate(engine, clients, 60)
    assert min(done) >= 0.7 * sum(done) / len(done)
    assert sum(done) >= 0.95 * 64 * 30 / (64 * 0.02)
