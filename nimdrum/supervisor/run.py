"""The supervisor's loop: one engine, kept alive while somebody uses it, and nothing left behind.

Threads only look (output, health, work) and put what they saw into one queue; everything that changes the engine
happens in the main thread, and everything that is decided is decided by `policy.transition`.
"""

import os
import signal
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from nimdrum.base.errors import SupervisorError
from nimdrum.base.log import event, get_logger
from nimdrum.base.secret import secrets_among
from nimdrum.base.settings import PREFIX
from nimdrum.engines.causes import API_SERVERS_REFUSED
from nimdrum.engines.plan import EnginePlan
from nimdrum.supervisor import policy
from nimdrum.supervisor.engine import CannotStart, Engine, Preparing, Renewing, tenth_told
from nimdrum.supervisor.events import Reporter, find_destination, stage_of
from nimdrum.supervisor.policy import Action, Event, Failed, Stop, Tick, transition
from nimdrum.supervisor.rundir import RunDir
from nimdrum.supervisor.state import STATE_LINES, EngineState, Phase, Record, read_state
from nimdrum.supervisor.users import prune, sweep_abandoned, take_if_unused
from nimdrum.supervisor.watch import Watch
from nimdrum.system import process
from nimdrum.system.locks import is_in_place
from nimdrum.system.output import LogTail

TICK_SEC = 0.1
SILENT_SEC = 2.0
"""After so long an external engine that is not ready is named: nobody else would tell what is wrong with it."""

log = get_logger("supervisor")


class Supervisor:
    """Owns the engine of one plan. `run` returns when the engine is stopped and nobody needs it any more."""

    def __init__(self, plan: EnginePlan, run_dir: RunDir, lock: int, forward: Callable[[str], None]) -> None:
        """`lock` holds the run folder's supervisor_lock. `forward` gets each line of the engine's output; it must not
        wait for whoever reads it."""
        self._lock = lock
        self._plan = plan
        self._run_dir = run_dir
        self._reporter = Reporter(find_destination(plan.platform, plan.verify_ssl))
        self._tail = LogTail(_secrets_of(plan), self._on_line, forward)
        self._engine = Engine(plan, run_dir.path, self._tail)
        self._preparing = Preparing(plan, run_dir.path, self._tail) if plan.prepare else None
        self._renewing = Renewing(plan, run_dir.path, self._tail, time.monotonic)
        self._tenths = -1
        self._told = ""
        self._events: SimpleQueue[tuple[Watch, Event]] = SimpleQueue()
        self._watch: Watch | None = None
        self._stop_signal: int | None = None
        self._lease: int | None = None
        self._record = Record(run_dir, self._tail, self._state)
        inherited = read_state(run_dir.inherited)
        self._life, self._action = policy.begin(
            time.monotonic(),
            inherited,
            time.time() - inherited.since if inherited else 0.0,
            prepared=not plan.prepare,
        )

    def run(self) -> None:
        """Raises OSError when the state cannot be written at the start, and SupervisorError when its folder is gone."""
        process.become_subreaper()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._record.begin()
        if leftovers := [*process.sweep(str(self._run_dir.path)), *sweep_abandoned(self._run_dir.path.parent)]:
            event(log, "supervisor.swept", processes=leftovers)
        prune(self._run_dir.path.parent)
        self._tell_route()
        try:
            self._carry_out()
            while self._life.phase is not Phase.STOPPING:
                self._look_around()
        finally:
            process.stop_tree(self._plan.stop_timeout_sec)

    def _tell_route(self) -> None:
        if self._plan.route:
            event(log, "weights.route", route=self._plan.route, why=self._plan.route_reason)

    def _take(self, plan: EnginePlan) -> None:
        """Start this engine instead: its plan was made after the user's load_model."""
        self._tail.hide(_secrets_of(plan))
        self._plan = plan
        self._engine = Engine(plan, self._run_dir.path, self._tail)
        self._renewing = Renewing(plan, self._run_dir.path, self._tail, time.monotonic)
        self._tell_route()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_signal = number

    def _on_line(self, line: str) -> None:
        if self._life.phase is Phase.STARTING and (stage := stage_of(line)):
            self._reporter.report(stage, f"{self._plan.line}: {line[:200]}")
        elif self._life.phase is Phase.FETCHING and (tenths := tenth_told(line)) not in (None, self._tenths):
            self._tenths = tenths or 0
            message = f"{self._plan.line}: {10 * self._tenths} % of the weights are here."
            self._reporter.report("downloading", message, again=True)

    def _look_around(self) -> None:
        """Wait for something to happen, at most one tick, and deal with it."""
        try:
            watch, seen = self._events.get(timeout=TICK_SEC)
            if watch is self._watch:  # and not of an engine that is gone
                self._apply(seen)
        except Empty:
            pass
        ended = process.reap()
        if self._preparing and (outcome := self._preparing.outcome(ended)) is not None:
            if plan := self._preparing.plan:
                self._take(plan)
            self._apply(outcome)
        if (cause := self._engine.cause_of_end(ended)) is not None:
            # Only a start is judged by its log lines: in the log of an engine that once ran they prove nothing.
            retry = cause.retry if self._life.phase is Phase.STARTING else None
            if self._plan.optional_flags and retry is False and cause.sentence == API_SERVERS_REFUSED:
                self._plan, retry = self._plan.without_optional_flags(), True
                self._engine.change(self._plan)
            self._apply(Failed(cause.sentence, retry))
        if self._must_end():
            self._apply(Stop())
        elif self._life.phase is Phase.RUNNING and self._watch and (silent := self._watch.silence()):
            self._apply(silent)
        else:
            self._apply(Tick())
        self._renewing.tick(self._life.phase is Phase.RUNNING, ended)
        self._tell_silence()
        self._record.tick()

    def _tell_silence(self) -> None:
        """Where an external engine was looked for, and what was seen there, as a line of its log."""
        waited_sec = time.monotonic() - self._life.since
        if self._plan.argv or self._watch is None or self._life.phase is not Phase.STARTING or waited_sec < SILENT_SEC:
            return
        seen = f"http://{self._plan.host}:{self._engine.port}{self._plan.health_path}: {self._watch.seen}"
        if seen != self._told:
            self._told = seen
            self._tail.add(seen, "external engine")

    def _must_end(self) -> bool:
        """Whether we were told to, or nobody uses the engine. Raises SupervisorError when our lock was deleted."""
        if not is_in_place(self._lock, self._run_dir.supervisor_lock):
            raise SupervisorError(f"{self._run_dir.supervisor_lock} was deleted, so another supervisor may start.")
        if self._lease is None:
            # Kept until this process ends: whoever wants the engine next waits for that.
            self._lease = take_if_unused(self._run_dir)
        return self._stop_signal is not None or self._lease is not None

    def _apply(self, happened: Event) -> None:
        before = self._life
        self._life, self._action = transition(before, happened, time.monotonic(), self._plan.limits)
        if self._life is not before:
            self._carry_out()

    def _carry_out(self) -> None:
        action, phase = self._action, self._life.phase
        event(log, f"engine.{phase.value.lower()}", **self._facts())
        self._record.changed()
        if action is Action.PREPARE and self._preparing:
            self._preparing.start()
        elif action is Action.START:
            self._start()
        elif action is Action.ASK and self._watch:
            self._watch.ask()
        elif action in (Action.CLEAN, Action.CLEAN_AND_END):
            self._clean()
        self._report()
        self._record.changed()

    def _start(self) -> None:
        if self._plan.api_servers:
            event(log, "engine.api_servers", chosen=self._plan.api_servers)
        try:
            plan = self._engine.start()
        except CannotStart as problem:
            self._apply(Failed(problem.cause, problem.retry))
            return
        watch = Watch(plan, lambda seen: self._events.put((watch, seen)))
        self._watch = watch
        watch.begin()

    def _clean(self) -> None:
        if self._watch:
            self._watch.stop()
        self._watch = None
        self._engine.stop()
        if self._life.phase is Phase.BACKOFF:
            self._engine.wait_memory_released(self._must_end)

    def _report(self) -> None:
        line, cause = self._plan.line, self._life.cause or ""
        messages = {
            Phase.FETCHING: ("starting", f"{self._preparing.what if self._preparing else ''} comes before {line}."),
            Phase.STARTING: ("loading" if self._preparing else "starting", f"{line} is starting."),
            Phase.RUNNING: ("ready", f"{line} is ready."),
            Phase.BACKOFF: ("restarting", f"{line} is started again. {cause}"),
            Phase.FATAL: ("failed", f"{line} failed. {cause}"),
        }
        if self._life.phase in messages:
            self._reporter.report(*messages[self._life.phase])

    def _state(self) -> EngineState:
        return EngineState(
            phase=self._life.phase,
            engine=self._plan.engine,
            line=self._plan.line,
            supervisor_pid=os.getpid(),
            since=time.time() - (time.monotonic() - self._life.since),
            engine_pid=self._engine.pid,
            host=self._plan.host,
            port=self._engine.port,
            model=self._watch.model if self._watch else None,
            restarts=self._life.restarts,
            cause=self._life.cause,
            last_lines=self._tail.last(STATE_LINES),
            seen=self._watch.seen if self._watch and self._plan.speaks_for_others else "",
            prepared=self._life.prepared or self._plan.prepared,
        )

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"line": self._plan.line}
        if self._life.phase is Phase.RUNNING and self._watch:
            facts |= {"model": self._watch.model, "port": self._engine.port}
        if self._life.phase in (Phase.BACKOFF, Phase.FATAL, Phase.STALLED):
            facts |= {"restarts": self._life.restarts, "cause": self._life.cause}
        if self._life.phase is Phase.BACKOFF:
            facts |= {"next_start_sec": self._life.backoff_sec}
        return facts


def _secrets_of(plan: EnginePlan) -> tuple[str, ...]:
    """What must not be in the log: its own secrets, and those among what its processes are handed."""
    handed_over = {
        name: value for env in (plan.env, *(step.env for step in plan.prepare)) for name, value in env.items()
    }
    parameters = [name for name in handed_over if name.startswith(PREFIX)]  # of these the plan knows better
    return (*plan.secrets, *secrets_among({name: handed_over[name] for name in handed_over.keys() - parameters}))
