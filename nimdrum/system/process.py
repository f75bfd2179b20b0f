"""Processes of ours: starting the first, noticing its end, leaving none behind; and one program run to its end."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from nimdrum.system.output import LogTail, OutputPump

LAUNCHER = Path(__file__).with_name("launch.py")
MARKER = "NIMDRUM_ENGINE_OF"
"""Variable in the environment of every process of an engine; its value is the engine's run folder."""
KILL_TIMEOUT_SEC = 10.0
POLL_SEC = 0.05
PR_SET_CHILD_SUBREAPER = 36
POLITE_SEC = 10.0
LAST_WORDS_SEC = 5.0
MOST_LINES = 20_000
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's, so that none can hide from `stop_tree`."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


class Child:
    """A process that was started here, in a session of its own, and is killed by the kernel when this thread ends.

    Must be made in the main thread: the kernel's signal is bound to the thread, not to the process. Its end is told by
    `reap`, which collects all children, so nobody else may wait for it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        marker: str,
        tail: LogTail,
        source: str = "engine",
        request: str | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        """`tail` gets the lines of both output streams, as from `source`; `request` is for the standard input.

        Raises OSError when `cwd` is not there; a program that is not there ends with 127.
        """
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *argv],
            env={**env, MARKER: marker},
            cwd=cwd,
            stdin=subprocess.DEVNULL if request is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        if request is not None:
            write_request(self._popen, request)
        assert self._popen.stdout is not None  # noqa: S101 - as asked for above
        self._pump = OutputPump(self._popen.stdout, tail, source)
        self._pump.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None while nobody has told of its end."""
        return self._popen.returncode

    def is_among(self, ended: Mapping[int, int]) -> bool:
        """Whether it ended with the children that `reap` or `stop_tree` collected; its exit code is known then."""
        if self.pid in ended and self._popen.returncode is None:
            self._popen.returncode = ended[self.pid]
            return True
        return False

    def last_lines(self, timeout_sec: float) -> tuple[str, ...]:
        """What it said, once all is read or the time is up."""
        self._pump.join(timeout_sec)
        return tuple(self._pump.mine)


def write_request(process: "subprocess.Popen[bytes]", text: str) -> None:
    """Hand a request over in a thread's time: a process that never reads must not hold us up."""

    def write(stream: IO[bytes]) -> None:
        try:
            with stream:
                stream.write(text.encode())
        except OSError:
            pass  # it ended first, and says why itself

    if process.stdin:
        threading.Thread(target=write, args=(process.stdin,), name="child-request", daemon=True).start()


def reap() -> dict[int, int]:
    """Collect all children that ended, adopted ones too: process id to exit code, negative for a signal."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def stop_tree(timeout_sec: float) -> dict[int, int]:
    """End every process below this one: SIGTERM, `timeout_sec`, SIGKILL. Returns what `reap` collected.

    Processes that left the engine's process group are found too, because this process is their subreaper.
    """
    ended = reap()
    _signal_all(_below(), signal.SIGTERM)
    deadline = time.monotonic() + timeout_sec
    last = deadline + KILL_TIMEOUT_SEC
    while (alive := _below()) and time.monotonic() < last:
        if time.monotonic() >= deadline:
            _signal_all(alive, signal.SIGKILL)
        time.sleep(POLL_SEC)
        ended.update(reap())
    ended.update(reap())
    return ended


def sweep(marker: str) -> list[int]:
    """Kill what an earlier supervisor of this run folder left behind when it was killed. Returns the process ids."""
    found = [process for process, value in _marked() if value == marker]
    _signal_all(found, signal.SIGKILL)
    psutil.wait_procs(found, timeout=KILL_TIMEOUT_SEC)
    return [process.pid for process in found]


def markers() -> set[str]:
    """The run folders that living processes belong to."""
    return {marker for _, marker in _marked()}


def _marked() -> Iterator[tuple[psutil.Process, str]]:
    """Processes of engines, with their markers; this one is never among them."""
    for pid in psutil.pids():  # process_iter keeps what it has seen, and would not signal the next one with its number
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if pid != os.getpid() and (marker := process.environ().get(MARKER)):
                yield process, marker


def _below() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if _alive(p)]


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal_all(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it printed on both of its streams, secrets masked."""

    exit_code: int | None
    """Negative for a signal; None when it was stopped here."""
    lines: tuple[str, ...]
    signal: int | None = None
    """The signal to this process for which it was stopped; None with no exit code: the time was up."""


def run_program(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str,
    timeout_sec: float,
    marker: str,
    secrets: Sequence[str] = (),
    on_line: Callable[[str], None] = lambda line: None,
    tick: Callable[[], None] = lambda: None,
) -> Ended:
    """Run `argv`. `on_line` gets each line as it comes (from a thread), `tick` is called until the end.

    Must be called from the main thread of a process that has no other children: all below it are stopped at the
    end. `marker` is put into the environment of all of them. Raises OSError when `cwd` is not there; a program that
    is not there ends with 127.
    """
    lines: list[str] = []

    def keep(line: str) -> None:
        if len(lines) < MOST_LINES:
            lines.append(line)
        with contextlib.suppress(OSError, ValueError):  # nobody reads us any more: the program must not wait
            on_line(line)

    become_subreaper()
    deadline = time.monotonic() + timeout_sec
    with _signals() as seen:
        child = Child(argv, env, cwd, marker, LogTail(secrets, keep))
        try:
            while child.exit_code is None and not seen and time.monotonic() < deadline:
                child.is_among(reap())
                tick()
                time.sleep(POLL_SEC)
            exit_code = child.exit_code
        finally:
            child.is_among(stop_tree(POLITE_SEC))
        child.last_lines(LAST_WORDS_SEC)
        return Ended(exit_code, tuple(lines), seen[0] if seen and exit_code is None else None)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end, instead of ending."""
    seen: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: seen.append(number)) for number in STOPPING}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
