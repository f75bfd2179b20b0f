"""The DRUM side: find or start the one supervisor, hold the lease, and wait for the engine."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from nimdrum.base.errors import EngineStartError, EngineUnavailableError, SupervisorError
from nimdrum.base.files import replace_file
from nimdrum.base.hosting import child_environment
from nimdrum.base.log import event, get_logger
from nimdrum.engines.plan import EnginePlan
from nimdrum.supervisor.rundir import RunDir, cannot_write, create_folder, create_run_dir
from nimdrum.supervisor.state import EngineState, Phase, read_state
from nimdrum.supervisor.users import ROOT_LOCK, is_used, register_master
from nimdrum.system.locks import is_in_place, is_locked, lock, locked, unlock
from nimdrum.system.process import sweep

LEASE_MARGIN_SEC = 45.0  # a supervisor that stops its engine holds the lease for the engine's time to stop and this
START_TIMEOUT_SEC = 30.0
PROBE_BYTES = 16_384  # more than a state has, and less than a disk that is not full has left
REACTION_SEC = 2.0  # who ends in the same moment as we do is no user any more after this
POLL_SEC = 0.05
PROGRESS_EVERY_SEC = 10.0
SHOWN_LINES = 10

log = get_logger("engine")


@dataclass(frozen=True)
class Endpoint:
    """Where a ready engine answers, and under which model name."""

    host: str
    port: int
    model: str
    pid: int | None = None
    """Of its first process, where that is ours: another one is another life of the engine."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@dataclass
class Attachment:
    """This process's hold on an engine. As long as it lives (or the process does), the engine is kept."""

    plan: EnginePlan = field(repr=False)
    run_dir: RunDir
    _lease: int | None = field(repr=False)
    gunicorn_master: int | None = None
    trouble: str = ""
    """Why there is no supervisor, should that be so."""
    _had_supervisor: bool = False

    def has_lost_lease(self) -> bool:
        """Whether somebody deleted the lease, so that the supervisor looks at another file."""
        return self._lease is not None and not is_in_place(self._lease, self.run_dir.lease)

    def state(self) -> EngineState | None:
        """What the supervisor says, or None when there is no supervisor."""
        return read_state(self.run_dir.state) if is_locked(self.run_dir.supervisor_lock) else None

    def ensure_supervisor(self) -> None:
        """Start a supervisor if there is none (any more), in a new run folder if that is gone, too.

        Raises SupervisorError, and EngineUnavailableError after `release`.
        """
        if self._lease is None:
            raise EngineUnavailableError("This process has let go of the engine and is ending.")
        try:
            create_run_dir(self.run_dir.path.parent, self.run_dir.path.name)
            if self.gunicorn_master is not None:
                register_master(self.run_dir, self.gunicorn_master)
            with locked(self.run_dir.start_lock, START_TIMEOUT_SEC):
                if self.has_lost_lease():
                    deleted, self._lease = self._lease, _lease(self.plan, self.run_dir)
                    unlock(deleted)
                if not is_locked(self.run_dir.supervisor_lock):
                    last = read_state(self.run_dir.state) if self._had_supervisor else None
                    prepared = last is not None and last.prepared  # by one that was killed: no load_model runs twice
                    _start_supervisor(replace(self.plan, prepared=prepared), self.run_dir)
        except SupervisorError as error:
            self.trouble = str(error)
            raise
        self._had_supervisor, self.trouble = True, ""

    def wait_ready(
        self, timeout_sec: float, stopped: Callable[[], bool] = lambda: False, *, fetch_counts: bool = True
    ) -> Endpoint:
        """The endpoint as soon as the engine is ready; `stopped` is asked while waiting.

        With `fetch_counts` off, the time in which its weights are fetched does not count: a fetch ends by itself.
        Raises EngineStartError when it will never be, with the cause and the last log lines, and
        EngineUnavailableError when it is not ready after `timeout_sec` or `stopped` says so.
        """
        began = last_told = time.monotonic()
        while True:
            state = self.state()
            if state is None:
                self.ensure_supervisor()
            elif state.phase is Phase.FATAL:
                raise EngineStartError(describe_failure(state))
            elif state.phase is Phase.RUNNING and state.model is not None:
                return Endpoint(state.host, state.port, state.model, state.engine_pid)
            now = time.monotonic()
            if state is not None and state.phase is Phase.FETCHING and not fetch_counts:
                began = now
            if now - began >= timeout_sec or stopped():
                raise EngineUnavailableError(
                    f"The engine is not ready after {now - began:.0f} s ({describe_progress(state)}). Try again later."
                )
            if now - last_told >= PROGRESS_EVERY_SEC:
                last_told = now
                event(log, "engine.waiting", after_sec=round(now - began), state=describe_progress(state))
            time.sleep(POLL_SEC)

    def release(self, timeout_sec: float = 0.0) -> None:
        """Let go of the engine; with a timeout, wait until the supervisor has ended if we were its last user."""
        if self._lease is None:
            return
        with contextlib.suppress(OSError):
            os.close(self._lease)
        self._lease = None
        began = time.monotonic()
        while (waited := time.monotonic() - began) < timeout_sec and is_locked(self.run_dir.supervisor_lock):
            if waited > REACTION_SEC and is_used(self.run_dir):
                return
            time.sleep(POLL_SEC)
        self._sweep_after_a_killed_supervisor()

    def _sweep_after_a_killed_supervisor(self) -> None:
        """End what a supervisor that was killed left behind: nobody may come after us whose supervisor would do it."""
        state = read_state(self.run_dir.state)
        if state is None or state.phase is Phase.STOPPING or is_locked(self.run_dir.supervisor_lock):
            return
        with locked(self.run_dir.start_lock, START_TIMEOUT_SEC):
            if not is_locked(self.run_dir.supervisor_lock):
                sweep(str(self.run_dir.path))


def attach(plan: EnginePlan, code_dir: Path, state_root: Path, gunicorn_master: int | None) -> Attachment:
    """Hold the lease of the engine that `plan` describes, and see that it has a supervisor.

    Every process with the same code folder and the same engine settings gets the same engine, however many call
    this in the same instant. Raises SupervisorError.
    """
    folder_digest = hashlib.sha256(str(code_dir).encode()).hexdigest()[:8]
    name = f"{code_dir.name[:40] or 'root'}-{folder_digest}-{plan.fingerprint}"
    create_folder(state_root)
    with locked(state_root / ROOT_LOCK, START_TIMEOUT_SEC, shared=True):
        run_dir = create_run_dir(state_root, name)
        attachment = Attachment(plan, run_dir, _lease(plan, run_dir), gunicorn_master)
    try:
        attachment.ensure_supervisor()
    except BaseException:
        attachment.release()
        raise
    return attachment


def _lease(plan: EnginePlan, run_dir: RunDir) -> int:
    return lock(run_dir.lease, plan.stop_timeout_sec + LEASE_MARGIN_SEC, shared=True)


def _start_supervisor(plan: EnginePlan, run_dir: RunDir) -> None:
    probe = run_dir.state.with_suffix(".probe")
    try:
        replace_file(probe, " " * PROBE_BYTES)
        probe.unlink()
    except OSError as error:
        raise cannot_write(run_dir.path, error) from error
    with contextlib.suppress(OSError):  # none there; or the supervisor itself will say what is wrong with the folder
        run_dir.state.replace(run_dir.inherited)
    # The plan, which holds keys, goes through a pipe that nobody else can read.
    process = subprocess.Popen(
        [sys.executable, "-m", "nimdrum.supervisor", str(run_dir.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # it logs to stderr; holding our stdout would keep a pipe behind us open
        env=child_environment(plan.network),
        cwd="/",
        start_new_session=True,
    )
    with contextlib.suppress(BrokenPipeError), process.stdin:  # type: ignore[union-attr]
        process.stdin.write(plan.to_json().encode())  # type: ignore[union-attr]
    deadline = time.monotonic() + START_TIMEOUT_SEC
    while time.monotonic() < deadline:
        state = read_state(run_dir.state)
        if state is not None and state.supervisor_pid == process.pid:
            return
        if process.poll() is not None:
            raise SupervisorError(
                f"The supervisor ended with code {process.returncode} before it began. See the lines above."
            )
        time.sleep(POLL_SEC)
    process.kill()
    raise SupervisorError(f"The supervisor said nothing within {START_TIMEOUT_SEC:g} s and was ended.")


def describe_failure(state: EngineState) -> str:
    """The cause of a FATAL engine and its last log lines, for a person."""
    lines = "".join(f"\n  | {line}" for line in state.last_lines[-SHOWN_LINES:])
    return f"{state.line} has failed. {state.cause}" + (f" Its last log lines:{lines}" if lines else "")


def describe_progress(state: EngineState | None) -> str:
    """What the engine is doing, in a few words."""
    if state is None:
        return "no supervisor"
    last = state.last_lines[-1][:160] if state.last_lines else "no output yet"
    cause = f", after: {state.cause}" if state.cause else ""
    return f"{state.phase.value}{cause}; last line: {last}"
