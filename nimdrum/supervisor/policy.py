"""The supervisor's decisions as a pure function: state and event in, state and action out.

No clock, process or file in here: times come with the events, and `run.py` carries the actions out.
"""

from dataclasses import dataclass, replace
from enum import Enum

from nimdrum.engines.plan import Limits
from nimdrum.supervisor.state import EngineState, Phase

FIRST_BACKOFF_SEC = 2.0
HEALED_AFTER_SEC = 1800.0
"""An engine that ran this long has its whole restart budget back."""

LAST_QUESTION_SEC = 60.0
"""The last question has a shorter limit of its own, but for each piece of an answer: one that trickles has none."""


@dataclass(frozen=True)
class Life:
    """Where an engine stands. `restarts` counts since the last healthy time."""

    phase: Phase = Phase.BACKOFF
    since: float = 0.0
    restarts: int = 0
    was_ready: bool = False
    ready_at: float | None = None
    """When the engine that runs now became ready; None when none is."""
    cause: str | None = None
    backoff_sec: float = 0.0
    prepared: bool = True
    """The weights are there; False while they must be fetched first."""


@dataclass(frozen=True)
class Prepared:
    """The weights are there."""


@dataclass(frozen=True)
class Failed:
    """The engine process ended, could not be started, or its weights could not be fetched. `retry` is None when
    nobody knows whether it helps."""

    cause: str
    retry: bool | None


@dataclass(frozen=True)
class Ready:
    """It answers, and lists the model that we asked for."""


@dataclass(frozen=True)
class Lost:
    """An external engine stopped answering."""

    cause: str


@dataclass(frozen=True)
class Silent:
    """A running engine gives no sign of life, or says itself that it is not well."""

    cause: str


@dataclass(frozen=True)
class Alive:
    """A silent engine was asked for one token and answered, or moved on its own."""


@dataclass(frozen=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True)
class Stop:
    """Nobody uses the engine any more, or the supervisor was told to end."""


Event = Prepared | Failed | Ready | Lost | Silent | Alive | Tick | Stop


class Action(Enum):
    """What the supervisor must do after a transition."""

    NONE = "none"
    PREPARE = "fetch the weights"
    START = "start the engine"
    CLEAN = "stop what is left of the engine"
    ASK = "ask the engine for one token"
    CLEAN_AND_END = "stop the engine and end"


def begin(
    now: float, inherited: EngineState | None = None, inherited_age_sec: float = 0.0, *, prepared: bool = True
) -> tuple[Life, Action]:
    """The first state and action. `inherited` is what a supervisor left that was killed, and `inherited_age_sec` for
    how long it was so: its restarts still count, unless the engine then ran healthy for long."""
    life = Life(since=now, prepared=prepared)
    if inherited is not None and inherited.phase in (Phase.RUNNING, Phase.STALLED, Phase.BACKOFF):
        healed = inherited.phase is Phase.RUNNING and inherited_age_sec >= HEALED_AFTER_SEC
        life = replace(life, restarts=0 if healed else inherited.restarts, was_ready=True)
    return _start(life, now)


def transition(life: Life, event: Event, now: float, limits: Limits) -> tuple[Life, Action]:
    """The next state and what to do. STOPPING is left by nobody; FATAL only by Stop."""
    if life.phase is Phase.STOPPING:
        return life, Action.NONE
    if isinstance(event, Stop):
        return replace(life, phase=Phase.STOPPING, since=now), Action.CLEAN_AND_END
    if life.phase is Phase.FATAL:
        return life, Action.NONE
    if isinstance(event, Prepared) and life.phase is Phase.FETCHING:
        return _start(replace(life, prepared=True), now)
    if isinstance(event, Failed) and life.phase is not Phase.BACKOFF:
        return _after_failure(life, event, now, limits)
    if isinstance(event, Ready) and life.phase is Phase.STARTING:
        return replace(life, phase=Phase.RUNNING, since=now, was_ready=True, ready_at=life.ready_at or now), Action.NONE
    if isinstance(event, Lost) and life.phase is Phase.RUNNING:
        return replace(life, phase=Phase.STARTING, since=now, cause=event.cause), Action.NONE
    if isinstance(event, Silent) and life.phase is Phase.RUNNING:
        return replace(life, phase=Phase.STALLED, since=now, cause=event.cause), Action.ASK
    if isinstance(event, Alive) and life.phase is Phase.STALLED:
        return replace(life, phase=Phase.RUNNING, since=now), Action.NONE
    if life.phase is Phase.STARTING and now - life.since >= limits.startup_timeout_sec:
        cause = (
            f"The engine was not ready {limits.startup_timeout_sec:g} s after its start. "
            "See its log lines; raise startup_timeout_sec if it was still downloading or loading."
        )
        return _after_failure(life, Failed(cause, retry=None), now, limits)
    if life.phase is Phase.STALLED and now - life.since >= LAST_QUESTION_SEC:
        return _after_failure(
            life, Failed(f"{life.cause} Asked for one token, its answer never ended.", retry=True), now, limits
        )
    if life.phase is Phase.BACKOFF and now - life.since >= life.backoff_sec:
        return _start(life, now)
    return life, Action.NONE


def _start(life: Life, now: float) -> tuple[Life, Action]:
    """Start the engine, or what must come before. A fetch has no time limit here: it ends itself when nothing comes."""
    if life.prepared:
        return replace(life, phase=Phase.STARTING, since=now), Action.START
    return replace(life, phase=Phase.FETCHING, since=now), Action.PREPARE


def _after_failure(life: Life, event: Failed, now: float, limits: Limits) -> tuple[Life, Action]:
    """Back off and try again, or give up.

    A failure that only a change of settings can mend is not tried again, and neither is an unknown one before
    the engine was ever ready: a start may take half an hour, and the user is waiting for the reason.
    """
    healed = life.ready_at is not None and now - life.ready_at >= HEALED_AFTER_SEC
    restarts = 0 if healed else life.restarts
    worth_it = event.retry if event.retry is not None else life.was_ready
    if not worth_it:
        return replace(life, phase=Phase.FATAL, since=now, cause=event.cause), Action.CLEAN
    if restarts >= limits.max_restarts:
        cause = f"{event.cause} Given up after {restarts} restarts (max_watchdog_restarts)."
        return replace(life, phase=Phase.FATAL, since=now, cause=cause), Action.CLEAN
    backoff = min(limits.max_backoff_sec, FIRST_BACKOFF_SEC * 2**restarts)
    life = replace(
        life,
        phase=Phase.BACKOFF,
        since=now,
        restarts=restarts + 1,
        ready_at=None,
        cause=event.cause,
        backoff_sec=backoff,
    )
    return life, Action.CLEAN
