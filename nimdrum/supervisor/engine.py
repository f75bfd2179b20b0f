"""One engine process at a time, and the fetch of its weights before: started, noticed when it ends, stopped whole."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nimdrum.base.log import event, get_logger
from nimdrum.engines.causes import Cause, find_cause
from nimdrum.engines.load_model import AGAIN, RUN
from nimdrum.engines.plan import LOAD_MODEL, EnginePlan, Preparation
from nimdrum.engines.preflight import look_before_start, shared_memory_bytes
from nimdrum.supervisor.policy import Failed, Prepared
from nimdrum.system import process
from nimdrum.system.gpu import Gpus
from nimdrum.system.output import LogTail
from nimdrum.system.ports import PortReservation, port_is_free, reserve_port
from nimdrum.system.process import Child
from nimdrum.weights.child import CAUSE

FETCH_LAST_WORDS_SEC = 2.0

log = get_logger("supervisor")


class Preparing:
    """The processes of a plan's Preparations, one after another. Must be used from the supervisor's main thread."""

    def __init__(self, plan: EnginePlan, run_path: Path, tail: LogTail) -> None:
        self._left = deque(plan.prepare)
        self._again = plan.prepared
        self._run_path = run_path
        self._tail = tail
        self._child: Child | None = None
        self._reader: threading.Thread | None = None
        self._answer = ""

    @property
    def what(self) -> str:
        """What runs now or next, for sentences."""
        return self._left[0].what if self._left else ""

    @property
    def plan(self) -> EnginePlan | None:
        """The plan that a load_model answered, which takes the place of the first one."""
        return EnginePlan.from_json(self._answer) if self._answer else None

    def start(self) -> None:
        step, argv = self._left[0], self._left[0].argv
        self._tail.add(f"{step.what} has begun", step.source)
        with ExitStack() as ours:
            writing: tuple[int, ...] = ()
            if step.source == LOAD_MODEL:
                reading, descriptor = os.pipe()
                ours.callback(os.close, descriptor)
                self._reader = threading.Thread(target=self._take_answer, args=(reading,), daemon=True)
                self._reader.start()
                argv, writing = (*argv, str(descriptor), AGAIN if self._again else RUN), (descriptor,)
            run_path = str(self._run_path)
            self._child = Child(argv, step.env, "/", run_path, self._tail, step.source, step.request, writing)

    def _take_answer(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as pipe:
            self._answer = pipe.read()

    def outcome(self, ended: Mapping[int, int]) -> Prepared | Failed | None:
        """What its end means, if it is among those that ended (`ended`: process id to exit code)."""
        child = self._child
        if child is None or not child.is_among(ended):
            return None
        self._child, step = None, self._left[0]
        event(log, f"{step.source}.ended", pid=child.pid, exit_code=child.exit_code)
        if child.exit_code == 0:
            if self._reader:
                self._reader.join(FETCH_LAST_WORDS_SEC)
            self._left.popleft()
            if not self._left:
                return Prepared()
            self.start()
            return None
        if child.exit_code == -signal.SIGKILL:
            # From outside. What was fetched is kept, so going on helps; whether a hook may run twice nobody knows.
            return Failed(f"{step.what} was killed.", retry=step.source != LOAD_MODEL)
        lines = child.last_lines(FETCH_LAST_WORDS_SEC)
        causes = [line.removeprefix(CAUSE) for line in lines if line.startswith(CAUSE)]
        return Failed(causes[-1] if causes else f"{step.what} ended with code {child.exit_code}.", retry=False)


def tenth_told(line: str) -> int | None:
    """How many tenths of the weights are there, by a line of the fetch; None where it does not say. Pure."""
    name, _, rest = line.partition(" ")
    if name != "weights.fetching" or not rest.startswith("percent="):
        return None
    percent = rest.removeprefix("percent=").partition(" ")[0]
    return int(percent) // 10 if percent.isdigit() else None


class Renewing:
    """A plan's fetch that runs again and again while its engine does. What goes wrong in it is told, and hurts nobody.

    Must be used from the supervisor's main thread.
    """

    def __init__(self, plan: EnginePlan, run_path: Path, tail: LogTail, clock: Callable[[], float]) -> None:
        self._step = plan.renew
        self._every_sec = plan.renew_sec
        self._run_path = run_path
        self._tail = tail
        self._clock = clock
        self._child: Child | None = None
        self._due: float | None = None

    def tick(self, running: bool, ended: Mapping[int, int]) -> None:
        """Start it when it is due, that long after the engine was ready or the last one ended. `ended` as in
        `Preparing.outcome`."""
        if self._step is None:
            return
        if self._child and self._child.is_among(ended):
            if self._child.exit_code:
                event(log, "adapters.not_renewed", exit_code=self._child.exit_code)
            self._child.last_lines(LAST_WORDS_SEC)
            self._child = self._due = None
        if not running:
            self._child = self._due = None  # with the engine all that was started here is stopped
        elif self._child is None and self._due is None:
            self._due = self._clock() + self._every_sec
        elif self._child is None and self._due is not None and self._clock() >= self._due:
            self._start(self._step)

    def _start(self, step: Preparation) -> None:
        try:
            self._child = Child(step.argv, step.env, "/", str(self._run_path), self._tail, step.source, step.request)
        except OSError as error:
            self._due = None
            log.warning("The LoRA adapters cannot be looked at: %s", error)


LAST_WORDS_SEC = 0.5


@dataclass
class CannotStart(Exception):
    """The engine was not started. `retry` as in `policy.Failed`."""

    cause: str
    retry: bool | None


class Engine:
    """The processes of one plan. Must be used from the supervisor's main thread."""

    def __init__(self, plan: EnginePlan, run_path: Path, tail: LogTail) -> None:
        self._plan = plan
        self._run_path = run_path
        self._tail = tail
        self._gpus = Gpus(plan.env)
        self._baseline_mb: list[int] | None = None
        self._child: Child | None = None
        self._reservation: PortReservation | None = None
        self._measured = False

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def change(self, plan: EnginePlan) -> None:
        """Start this plan from the next time on: another environment, on the same port and GPUs."""
        self._plan = plan

    @property
    def port(self) -> int:
        return self._reservation.port if self._reservation else self._plan.port

    def start(self) -> EnginePlan:
        """Start it; the plan with its port. Raises CannotStart."""
        plan = self._plan
        if not plan.argv:
            return plan
        if not self._measured:  # not earlier: what a killed supervisor left is swept by now
            self._measured = True
            self._baseline_mb = self._gpus.used_mb()
        self._look_before()
        self._take_port()
        plan = plan.with_port(self.port)
        try:
            self._child = Child(plan.argv, plan.env, plan.cwd, str(self._run_path), self._tail)
        except OSError as error:
            raise CannotStart(f"{plan.line} cannot be started in {plan.cwd}: {error.strerror}.", retry=False) from error
        return plan

    def cause_of_end(self, ended: Mapping[int, int]) -> Cause | None:
        """Why it ended, if its first process is among those that did (`ended`: process id to exit code)."""
        child = self._child
        if child is None or not child.is_among(ended):
            return None
        event(log, "engine.ended", pid=child.pid, exit_code=child.exit_code)
        return find_cause(child.last_lines(LAST_WORDS_SEC), child.exit_code)

    def stop(self) -> None:
        """End everything that the plan started."""
        if not self._plan.argv:
            return
        ended = process.stop_tree(self._plan.stop_timeout_sec)
        if self._child:
            self._child.is_among(ended)
            self._child.last_lines(LAST_WORDS_SEC)  # else they are lost when this process ends next
        self._child = None

    def wait_memory_released(self, stopped: Callable[[], bool]) -> None:
        """Until the GPUs are as they were before the first start: NIM 1.x refuses one that somebody else uses."""
        if self._gpus.wait_released(self._baseline_mb, stopped=stopped) is False:
            event(log, "engine.gpu_memory_not_released", used_mb=self._gpus.used_mb(), before_mb=self._baseline_mb)

    def _look_before(self) -> None:
        if not self._plan.uses_gpus:
            return
        gpus = None if self._baseline_mb is None else len(self._baseline_mb)
        findings = look_before_start(self._plan, gpus, shared_memory_bytes())
        if findings.warning:
            log.warning("%s", findings.warning)
        if findings.problem:
            raise CannotStart(findings.problem, retry=False)

    def _take_port(self) -> None:
        """Reserve the engine's port. Raises CannotStart when somebody else listens on one that it needs."""
        if self._plan.port == 0 and (self._reservation is None or not port_is_free(self._reservation.port)):
            if self._reservation:
                self._reservation.release()
            self._reservation = None
            try:
                self._reservation = reserve_port(self._plan.drum_port)
            except OSError as error:
                raise CannotStart(f"{self._plan.line} gets no port: {error}.", retry=None) from error
        for port in (self.port, *self._plan.other_ports):
            if not port_is_free(port):
                raise CannotStart(
                    f"Port {port}, which {self._plan.line} needs, is taken by another process. See `ss -ltnp`.",
                    retry=None,
                )
