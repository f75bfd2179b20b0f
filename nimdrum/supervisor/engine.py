"""One engine process at a time, and the fetch of its weights before: started, noticed when it ends, stopped whole."""

import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nimdrum.base.log import event, get_logger
from nimdrum.engines.causes import Cause, find_cause
from nimdrum.engines.plan import EnginePlan, Preparation
from nimdrum.engines.preflight import look_before_start, shared_memory_bytes
from nimdrum.supervisor.policy import Failed, Prepared
from nimdrum.system import process
from nimdrum.system.gpu import Gpus
from nimdrum.system.output import LogTail, OutputPump
from nimdrum.system.ports import PortReservation, port_is_free, reserve_port
from nimdrum.weights.child import CAUSE, write_request

FETCH_LAST_WORDS_SEC = 2.0

log = get_logger("supervisor")


class Preparing:
    """The process of one Preparation. Must be used from the supervisor's main thread."""

    def __init__(self, preparation: Preparation, run_path: Path, tail: LogTail) -> None:
        self._preparation = preparation
        self._run_path = run_path
        self._tail = tail
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: OutputPump | None = None

    def start(self) -> None:
        todo = self._preparation
        self._process = process.start(todo.argv, todo.env, "/", str(self._run_path), subprocess.PIPE)
        write_request(self._process, todo.request)
        if self._process.stdout:
            self._pump = OutputPump(self._process.stdout, self._tail, "weights")
            self._pump.start()

    def outcome(self, ended: dict[int, int]) -> Prepared | Failed | None:
        """What its end means, if it is among those that ended (`ended`: process id to exit code)."""
        if self._process is None or self._process.pid not in ended:
            return None
        code = self._process.returncode = ended[self._process.pid]
        event(log, "weights.ended", pid=self._process.pid, exit_code=code)
        lines: tuple[str, ...] = ()
        if self._pump:
            self._pump.join(FETCH_LAST_WORDS_SEC)
            lines = tuple(self._pump.mine)
        self._process = None
        if code == 0:
            return Prepared()
        causes = [line.removeprefix(CAUSE) for line in lines if line.startswith(CAUSE)]
        # SIGKILL comes from outside, and what has arrived is kept: going on helps. All else would fail again.
        if code == -signal.SIGKILL:
            return Failed("The process that fetches the weights was killed.", retry=True)
        return Failed(causes[-1] if causes else f"Fetching the weights ended with code {code}.", retry=False)


def tenth_told(line: str) -> int | None:
    """How many tenths of the weights are there, by a line of the fetch; None where it does not say. Pure."""
    name, _, rest = line.partition(" ")
    if name != "weights.fetching" or not rest.startswith("percent="):
        return None
    percent = rest.removeprefix("percent=").partition(" ")[0]
    return int(percent) // 10 if percent.isdigit() else None


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
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: OutputPump | None = None
        self._reservation: PortReservation | None = None
        self._measured = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

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
            self._process = process.start(plan.argv, plan.env, plan.cwd, str(self._run_path))
        except OSError as error:
            raise CannotStart(f"{plan.line} cannot be started in {plan.cwd}: {error.strerror}.", retry=False) from error
        if self._process.stdout:
            self._pump = OutputPump(self._process.stdout, self._tail)
            self._pump.start()
        return plan

    def cause_of_end(self, ended: dict[int, int]) -> Cause | None:
        """Why it ended, if its first process is among those that did (`ended`: process id to exit code)."""
        if self._process is None or self._process.pid not in ended:
            return None
        code = self._process.returncode = ended[self._process.pid]
        event(log, "engine.ended", pid=self._process.pid, exit_code=code)
        lines: tuple[str, ...] = ()
        if self._pump:
            self._pump.join(LAST_WORDS_SEC)
            lines = tuple(self._pump.mine)
        return find_cause(lines, code)

    def stop(self) -> None:
        """End everything that the plan started."""
        if not self._plan.argv:
            return
        process.stop_tree(self._plan.stop_timeout_sec)
        if self._process and self._process.returncode is None:
            self._process.returncode = 0  # collected by stop_tree; Popen must not wait for it again
        self._process = None

    def wait_memory_released(self, stopped: Callable[[], bool]) -> None:
        """Until the GPUs are as they were before the first start: NIM 1.x refuses one that somebody else uses."""
        if self._gpus.wait_released(self._baseline_mb, stopped=stopped) is False:
            event(log, "engine.gpu_memory_not_released", used_mb=self._gpus.used_mb(), before_mb=self._baseline_mb)

    def _look_before(self) -> None:
        if not self._plan.uses_gpus:
            return
        gpus = None if self._baseline_mb is None else len(self._baseline_mb)
        findings = look_before_start(self._plan.cache, self._plan.profile, gpus, shared_memory_bytes())
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
