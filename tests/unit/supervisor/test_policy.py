"""The supervisor's decisions: tables of single lives, and what holds in every life that Hypothesis can think of."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.supervisor.policy import (
    FIRST_BACKOFF_SEC,
    HEALED_AFTER_SEC,
    LAST_QUESTION_SEC,
    Action,
    Alive,
    Event,
    Failed,
    Life,
    Limits,
    Lost,
    Prepared,
    Ready,
    Silent,
    Stop,
    Tick,
    begin,
    transition,
)
from nimdrum.supervisor.state import EngineState, Phase

LIMITS = Limits(max_restarts=3, max_backoff_sec=300, startup_timeout_sec=600)
MENDABLE, HOPELESS, UNKNOWN = Failed("crash", True), Failed("bad key", False), Failed("who knows", None)
DAY_SEC = 86_400.0


@dataclass(frozen=True)
class Step:
    """One transition, for assertions on the history."""

    before: Life
    event: Event
    now: float
    life: Life
    action: Action


def live(events: list[tuple[float, Event]], limits: Limits = LIMITS) -> list[Step]:
    """The history of a life that begins at 0; each event comes with the seconds since the one before."""
    life, action = begin(0.0)
    assert (life.phase, action) == (Phase.STARTING, Action.START)
    now, history = 0.0, []
    for seconds, event in events:
        now += seconds
        before = life
        life, action = transition(before, event, now, limits)
        history.append(Step(before, event, now, life, action))
    return history


def story(events: list[tuple[float, Event]], limits: Limits = LIMITS) -> list[tuple[str, str]]:
    """Phase and action after each event, as words."""
    return [(step.life.phase.value, step.action.name) for step in live(events, limits)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [(1, Tick()), (30, Ready()), (99, Tick()), (1, Stop())],
            [("STARTING", "NONE"), ("RUNNING", "NONE"), ("RUNNING", "NONE"), ("STOPPING", "CLEAN_AND_END")],
            id="a good life",
        ),
        pytest.param([(1, HOPELESS), (99, Tick())], [("FATAL", "CLEAN"), ("FATAL", "NONE")], id="settings are wrong"),
        pytest.param([(1, UNKNOWN)], [("FATAL", "CLEAN")], id="an unknown failure before the engine was ever ready"),
        pytest.param(
            [(1, MENDABLE), (1.9, Tick()), (0.2, Tick())],
            [("BACKOFF", "CLEAN"), ("BACKOFF", "NONE"), ("STARTING", "START")],
            id="a mendable failure is tried again after its back-off",
        ),
        pytest.param(
            [(5, Ready()), (5, UNKNOWN), (2, Tick()), (5, Ready())],
            [("RUNNING", "NONE"), ("BACKOFF", "CLEAN"), ("STARTING", "START"), ("RUNNING", "NONE")],
            id="an engine that once ran is started again whatever it died of",
        ),
        pytest.param(
            [(5, Ready()), (5, UNKNOWN), (2, Tick()), (1, HOPELESS)],
            [("RUNNING", "NONE"), ("BACKOFF", "CLEAN"), ("STARTING", "START"), ("FATAL", "CLEAN")],
            id="a hopeless failure ends a restart too",
        ),
        pytest.param(
            [(599, Tick()), (1, Tick())], [("STARTING", "NONE"), ("FATAL", "CLEAN")], id="never ready in time"
        ),
        pytest.param([(601, Ready())], [("RUNNING", "NONE")], id="ready counts even when it comes late"),
        pytest.param(
            [(5, Ready()), (5, Lost("gone")), (5, Ready())],
            [("RUNNING", "NONE"), ("STARTING", "NONE"), ("RUNNING", "NONE")],
            id="an external engine comes back and nothing is started",
        ),
        pytest.param(
            [(5, Ready()), (5, Silent("no token")), (1, Silent("no token")), (5, Alive())],
            [("RUNNING", "NONE"), ("STALLED", "ASK"), ("STALLED", "NONE"), ("RUNNING", "NONE")],
            id="a silent engine is asked once, and answers",
        ),
        pytest.param(
            [(5, Ready()), (5, Silent("no token")), (5, UNKNOWN), (2, Tick())],
            [("RUNNING", "NONE"), ("STALLED", "ASK"), ("BACKOFF", "CLEAN"), ("STARTING", "START")],
            id="a silent engine that makes no token is started again",
        ),
        pytest.param(
            [(5, Silent("x")), (1, Alive())],
            [("STARTING", "NONE"), ("STARTING", "NONE")],
            id="an engine that starts is not asked",
        ),
        pytest.param(
            [(1, MENDABLE), (1, Stop()), (99, Tick())],
            [("BACKOFF", "CLEAN"), ("STOPPING", "CLEAN_AND_END"), ("STOPPING", "NONE")],
            id="stop in the back-off",
        ),
        pytest.param(
            [(1, HOPELESS), (1, Stop())], [("FATAL", "CLEAN"), ("STOPPING", "CLEAN_AND_END")], id="stop when fatal"
        ),
        pytest.param(
            [(1, Stop()), (1, Stop()), (1, MENDABLE)],
            [("STOPPING", "CLEAN_AND_END"), ("STOPPING", "NONE"), ("STOPPING", "NONE")],
            id="stop twice",
        ),
        pytest.param(
            [(1, MENDABLE), (0.1, MENDABLE), (0.1, Ready())],
            [("BACKOFF", "CLEAN"), ("BACKOFF", "NONE"), ("BACKOFF", "NONE")],
            id="late news from the engine that ended",
        ),
    ],
)
def test_lives(events: list[tuple[float, Event]], expected: list[tuple[str, str]]) -> None:
    """The phases and actions of one life, in the order of its events."""
    assert story(events) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [(DAY_SEC, Tick()), (1, Prepared()), (30, Ready()), (5, UNKNOWN), (2, Tick())],
            [
                *(("FETCHING", "NONE"), ("STARTING", "START"), ("RUNNING", "NONE")),
                *(("BACKOFF", "CLEAN"), ("STARTING", "START")),
            ],
            id="fetched once, however long it takes",
        ),
        pytest.param([(5, HOPELESS)], [("FATAL", "CLEAN")], id="a fetch that failed"),
        pytest.param(
            [(5, MENDABLE), (2, Tick()), (5, Prepared())],
            [("BACKOFF", "CLEAN"), ("FETCHING", "PREPARE"), ("STARTING", "START")],
            id="a fetch that was killed is taken up again",
        ),
        pytest.param(
            [(5, Prepared()), (600, Tick())], [("STARTING", "START"), ("FATAL", "CLEAN")], id="then time counts"
        ),
        pytest.param([(5, Ready()), (1, Silent("x"))], [("FETCHING", "NONE")] * 2, id="no news of an engine"),
        pytest.param([(5, Stop())], [("STOPPING", "CLEAN_AND_END")], id="stop while fetching"),
    ],
)
def test_lives_that_begin_with_a_fetch(events: list[tuple[float, Event]], expected: list[tuple[str, str]]) -> None:
    """The weights first, without a time limit; the engine's own time begins when they are there."""
    life, action = begin(0.0, prepared=False)
    assert (life.phase, action) == (Phase.FETCHING, Action.PREPARE)
    now, seen = 0.0, []
    for seconds, event in events:
        now += seconds
        life, action = transition(life, event, now, LIMITS)
        seen.append((life.phase.value, action.name))
    assert seen == expected


def test_restarts_are_counted_and_end() -> None:
    """Three restarts with a doubling back-off, then FATAL with the number and the name of the setting."""
    history = live([(1, MENDABLE), (DAY_SEC, Tick())] * 3 + [(1, MENDABLE)])
    waits = [step.life.backoff_sec for step in history if step.life.phase is Phase.BACKOFF]
    assert waits == [FIRST_BACKOFF_SEC, 2 * FIRST_BACKOFF_SEC, 4 * FIRST_BACKOFF_SEC]
    last = history[-1].life
    assert (last.phase, last.restarts) == (Phase.FATAL, 3)
    assert last.cause == "crash Given up after 3 restarts (max_watchdog_restarts)."


def test_no_restarts_means_none() -> None:
    """The first failure is the last."""
    assert story([(1, MENDABLE)], Limits(0, 300, 600)) == [("FATAL", "CLEAN")]


def test_a_start_that_takes_too_long_says_which_setting_helps() -> None:
    """The cause names the limit and its parameter."""
    cause = live([(600, Tick())])[-1].life.cause
    assert cause is not None
    assert "600 s" in cause
    assert "startup_timeout_sec" in cause


CRASHED_OFTEN: list[tuple[float, Event]] = [(1, MENDABLE), (DAY_SEC, Tick())] * 3


@pytest.mark.parametrize(
    ("ran_sec", "restarts", "phase"),
    [(HEALED_AFTER_SEC - 1, 3, Phase.FATAL), (HEALED_AFTER_SEC, 1, Phase.BACKOFF)],
    ids=["not long enough", "long enough"],
)
def test_a_long_healthy_run_gives_the_restarts_back(ran_sec: float, restarts: int, phase: Phase) -> None:
    """An engine that used up its restarts and then ran for half an hour has all of them again."""
    last = live([*CRASHED_OFTEN, (1, Ready()), (ran_sec, UNKNOWN)])[-1].life
    assert (last.restarts, last.phase) == (restarts, phase)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([(HEALED_AFTER_SEC, Lost("gone")), (600, Tick())], id="lost, and not back in time"),
        pytest.param([(HEALED_AFTER_SEC, Silent("no token")), (10, UNKNOWN)], id="silent, and no token made"),
        pytest.param(
            [(HEALED_AFTER_SEC, Silent("no token")), (1, Alive()), (1, UNKNOWN)], id="silent once, and crashed later"
        ),
    ],
)
def test_the_healthy_run_counts_whatever_ends_it(end: list[tuple[float, Event]]) -> None:
    """An engine that is lost or silent before it is called failed ran just as long."""
    last = live([*CRASHED_OFTEN, (1, Ready()), *end])[-1].life
    assert (last.restarts, last.phase) == (1, Phase.BACKOFF)


EVENTS = st.one_of(
    st.builds(Failed, st.just("crash"), st.sampled_from([True, False, None])),
    st.just(Ready()),
    st.builds(Lost, st.just("gone")),
    st.builds(Silent, st.just("no token")),
    st.just(Alive()),
    st.just(Tick()),
    st.just(Tick()),
    st.just(Prepared()),
)
HISTORIES = st.lists(st.tuples(st.floats(0, 4000), EVENTS | st.just(Stop())), max_size=40)
LIVELY = st.lists(st.tuples(st.floats(0, 4000), EVENTS), max_size=40)
ANY_LIMITS = st.builds(Limits, st.integers(0, 1000), st.floats(1, 3600), st.floats(1, 86_400))


@settings(max_examples=200)
@given(HISTORIES, ANY_LIMITS)
def test_what_always_holds(events: list[tuple[float, Event]], limits: Limits) -> None:
    """Running only after Ready, starts only out of the back-off, restarts and back-off within the user's limits."""
    for step in live(events, limits):
        before, after = step.before.phase, step.life.phase
        if after is Phase.RUNNING and before is not Phase.RUNNING:
            came = (before, type(step.event))
            assert came in ((Phase.STARTING, Ready), (Phase.STALLED, Alive))
        if after in (Phase.RUNNING, Phase.STALLED):
            assert step.life.was_ready
        assert (step.action is Action.ASK) == (before is Phase.RUNNING and after is Phase.STALLED)
        assert (step.action is Action.START) == (before is Phase.BACKOFF and after is Phase.STARTING)
        assert (step.action is Action.CLEAN) == (after is not before and after in (Phase.BACKOFF, Phase.FATAL))
        if before is Phase.BACKOFF and after is Phase.STARTING:
            assert step.now - step.before.since >= step.before.backoff_sec
        assert 0 <= step.life.restarts <= limits.max_restarts
        assert step.life.backoff_sec <= limits.max_backoff_sec
        assert step.life.since <= step.now
        if after in (Phase.BACKOFF, Phase.FATAL):
            assert step.life.cause


@settings(max_examples=200)
@given(HISTORIES, ANY_LIMITS)
def test_final_phases(events: list[tuple[float, Event]], limits: Limits) -> None:
    """STOPPING is never left; FATAL is left by Stop only, and nothing is done in it."""
    for step in live(events, limits):
        if step.before.phase is Phase.STOPPING:
            assert (step.life, step.action) == (step.before, Action.NONE)
        if step.before.phase is Phase.FATAL and not isinstance(step.event, Stop):
            assert (step.life, step.action) == (step.before, Action.NONE)


@settings(max_examples=200)
@given(LIVELY, HISTORIES, ANY_LIMITS)
def test_stop_always_ends_it_once(
    before: list[tuple[float, Event]], after: list[tuple[float, Event]], limits: Limits
) -> None:
    """The first Stop cleans and ends, whatever came before it; nothing that follows does so again."""
    history = live([*before, (1, Stop()), *after], limits)
    endings = [i for i, step in enumerate(history) if step.action is Action.CLEAN_AND_END]
    assert endings == [len(before)]
    assert {step.life.phase for step in history[len(before) :]} == {Phase.STOPPING}


@settings(max_examples=200)
@given(LIVELY, ANY_LIMITS)
def test_starts_and_cleans_take_turns(events: list[tuple[float, Event]], limits: Limits) -> None:
    """There are never two engines: between two starts the first one was cleaned away."""
    actions = [Action.START, *(step.action for step in live(events, limits))]
    changes = [action for action in actions if action in (Action.START, Action.CLEAN)]
    assert all(first is not second for first, second in pairwise(changes))


@pytest.mark.parametrize(
    ("phase", "age_sec", "restarts", "was_ready"),
    [
        (Phase.RUNNING, 60, 9, True),
        (Phase.BACKOFF, DAY_SEC, 9, True),
        (Phase.RUNNING, HEALED_AFTER_SEC, 0, True),
        (Phase.FATAL, 60, 0, False),
        (Phase.STOPPING, 60, 0, False),
    ],
)
def test_what_a_killed_supervisor_hands_on(phase: Phase, age_sec: float, restarts: int, was_ready: bool) -> None:
    """Its restarts, unless it had earned them back; and nothing of one that came to an end of its own."""
    inherited = EngineState(phase, "nim", "NIM 2.x", 10, 0.0, restarts=9)
    life, action = begin(0.0, inherited, age_sec)
    assert (life.phase, action) == (Phase.STARTING, Action.START)
    assert (life.restarts, life.was_ready) == (restarts, was_ready)


def test_the_last_question_has_an_end() -> None:
    """Also when an answer comes byte by byte for ever, so that its own time limit never strikes."""
    events: list[tuple[float, Event]] = [(1, Ready()), (1, Silent("no token")), (LAST_QUESTION_SEC, Tick())]
    last = live(events)[-1]
    assert (last.life.phase, last.action) == (Phase.BACKOFF, Action.CLEAN)
    assert last.life.cause == "no token Asked for one token, its answer never ended."
