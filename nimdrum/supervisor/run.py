"""The supervisor's loop: one engine, kept alive while somebody uses it, and nothing left behind.

Threads only read (output, health) and put what they saw into one queue; everything that changes the engine
happens in the main thread.
"""

import os
import signal
import subprocess
import time
from queue import Empty, SimpleQueue

from nimdrum.engines.plan import EnginePlan
from nimdrum.log import event, format_event, get_logger
from nimdrum.supervisor import policy, process
from nimdrum.supervisor.causes import find_cause
from nimdrum.supervisor.output import LogTail, OutputPump
from nimdrum.supervisor.policy import Action, Event, Failed, Lost, Ready, Stop, Tick, transition
from nimdrum.supervisor.ports import PortReservation, port_is_free, reserve_port
from nimdrum.supervisor.probe import Probe, Prober, probe
from nimdrum.supervisor.rundir import RunDir, replace_file
from nimdrum.supervisor.state import EngineState, Phase, write_state
from nimdrum.supervisor.users import take_if_unused

TICK_SEC = 0.1
LOG_EVERY_SEC = 1.0
STATE_LINES = 20
LAST_WORDS_SEC = 0.5

log = get_logger("supervisor")


class Supervisor:
    """Owns the engine of one plan. `run` returns when the engine is stopped and nobody needs it any more."""

    def __init__(self, plan: EnginePlan, run_dir: RunDir) -> None:
        self._plan = plan
        self._run_dir = run_dir
        self._limits = policy.Limits(plan.max_restarts, plan.max_backoff_sec, plan.startup_timeout_sec)
        self._events: SimpleQueue[tuple[int, Probe]] = SimpleQueue()
        self._tail = LogTail(plan.secrets)
        self._stop_signal: int | None = None
        self._engine: subprocess.Popen[bytes] | None = None
        self._pump: OutputPump | None = None
        self._prober: Prober | None = None
        self._port: PortReservation | None = None
        self._generation = 0
        self._model: str | None = None
        self._waiting_for = ""
        self._logged = (0, 0.0)
        self._life, self._action = policy.begin(time.monotonic())

    def run(self) -> None:
        process.become_subreaper()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        if leftovers := process.sweep(str(self._run_dir.path)):
            event(log, "supervisor.swept", processes=leftovers)
        try:
            self._carry_out()
            while self._life.phase is not Phase.STOPPING:
                self._look_around()
        finally:
            process.stop_tree(self._plan.stop_timeout_sec)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_signal = number

    def _look_around(self) -> None:
        """Wait for something to happen, at most one tick, and deal with it."""
        try:
            generation, seen = self._events.get(timeout=TICK_SEC)
            if generation == self._generation:
                self._on_probe(seen)
        except Empty:
            pass
        self._collect(process.reap())
        if self._stop_signal is not None:
            self._apply(Stop())
        elif take_if_unused(self._run_dir) is not None:
            # The lease is kept until this process ends: whoever wants the engine next waits for that.
            self._apply(Stop())
        else:
            self._apply(Tick())
        self._write_log(LOG_EVERY_SEC)

    def _on_probe(self, seen: Probe) -> None:
        self._waiting_for = seen.detail
        if seen.ready:
            self._model = seen.model
            self._apply(Ready())
        elif not self._plan.argv:
            self._apply(
                Lost(f"The external engine at {self._plan.host}:{self._plan.port} does not answer: {seen.detail}.")
            )

    def _collect(self, ended: dict[int, int]) -> None:
        """Tell the policy when the engine's own process is among those that ended."""
        if self._engine is None or self._engine.pid not in ended:
            return
        code = self._engine.returncode = ended[self._engine.pid]
        if self._pump:
            self._pump.join(LAST_WORDS_SEC)
        cause = find_cause(tuple(self._pump.mine) if self._pump else (), code)
        event(log, "engine.ended", pid=self._engine.pid, exit_code=code)
        # Only a start is judged by its log lines: in the log of an engine that once ran they prove nothing.
        retry = cause.retry if self._life.phase is Phase.STARTING else None
        self._apply(Failed(cause.sentence, retry))

    def _apply(self, happened: Event) -> None:
        before = self._life
        self._life, self._action = transition(before, happened, time.monotonic(), self._limits)
        if self._life is not before:
            self._carry_out()

    def _carry_out(self) -> None:
        phase = self._life.phase
        log.info("%s", format_event(f"engine.{phase.value.lower()}", self._facts()))
        self._write_state()
        if self._action is Action.START:
            self._start()
        elif self._action in (Action.CLEAN, Action.CLEAN_AND_END):
            self._clean()
        self._write_state()

    def _start(self) -> None:
        self._generation += 1
        generation, plan = self._generation, self._plan
        if plan.argv:
            if (taken := self._take_port()) is not None:
                self._apply(Failed(taken, retry=None))
                return
            plan = plan.with_port(self._port.port if self._port else plan.port)
            try:
                self._engine = process.start(plan.argv, plan.env, plan.cwd, str(self._run_dir.path))
            except OSError as error:
                self._apply(Failed(f"{plan.line} cannot be started in {plan.cwd}: {error.strerror}.", retry=False))
                return
            if self._engine.stdout:
                self._pump = OutputPump(self._engine.stdout, self._tail)
                self._pump.start()
        self._prober = Prober(
            lambda: probe(plan.host, plan.port, plan.health_path, plan.model),
            lambda seen: self._events.put((generation, seen)),
        )
        self._prober.start()

    def _take_port(self) -> str | None:
        """Reserve the engine's port; the reason why not when somebody else listens on one that it needs."""
        if self._plan.port == 0 and self._port is None:
            self._port = reserve_port(self._run_dir.path.parent / "ports")
        for port in (self._port.port if self._port else self._plan.port, *self._plan.other_ports):
            if not port_is_free(port):
                if self._port and port == self._port.port:
                    self._port.release()
                    self._port = None  # the next start takes another one
                return f"Port {port}, which {self._plan.line} needs, is taken by another process. See `ss -ltnp`."
        return None

    def _clean(self) -> None:
        if self._prober:
            self._prober.stop()
        self._generation += 1
        self._model = None
        if self._plan.argv:
            process.stop_tree(self._plan.stop_timeout_sec)
        if self._engine and self._engine.returncode is None:
            self._engine.returncode = 0  # collected by stop_tree; Popen must not wait for it again
        self._engine = None

    def _write_state(self) -> None:
        self._write_log()
        write_state(
            self._run_dir.state,
            EngineState(
                phase=self._life.phase,
                engine=self._plan.engine,
                line=self._plan.line,
                supervisor_pid=os.getpid(),
                since=time.time() - (time.monotonic() - self._life.since),
                engine_pid=self._engine.pid if self._engine else None,
                host=self._plan.host,
                port=self._port.port if self._port else self._plan.port,
                model=self._model,
                restarts=self._life.restarts,
                cause=self._life.cause,
                last_lines=self._tail.last(STATE_LINES),
            ),
        )

    def _write_log(self, every_sec: float = 0) -> None:
        changes, at = self._logged
        now = time.monotonic()
        if self._tail.changes != changes and now - at >= every_sec:
            self._logged = self._tail.changes, now
            replace_file(self._run_dir.log, "".join(f"{line}\n" for line in self._tail.last()))

    def _facts(self) -> dict[str, object]:
        facts: dict[str, object] = {"line": self._plan.line}
        if self._life.phase is Phase.RUNNING:
            facts |= {"model": self._model, "port": self._port.port if self._port else self._plan.port}
        if self._life.phase in (Phase.BACKOFF, Phase.FATAL):
            facts |= {"restarts": self._life.restarts, "cause": self._life.cause}
        if self._life.phase is Phase.BACKOFF:
            facts |= {"next_start_sec": self._life.backoff_sec}
        return facts
