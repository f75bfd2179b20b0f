"""Processes of ours: starting the first, noticing its end, leaving none behind; and one program run to its end."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


def start(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, marker: str, stdin: int = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    """Start the engine in a session of its own, killed by the kernel when the calling thread ends.

    Must be called from the main thread: the kernel's signal is bound to the thread, not to the process.
    """
    command = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *argv]
    return subprocess.Popen(
        command,
        env={**env, MARKER: marker},
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


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


def sweep(marker: str, timeout_sec: float = KILL_TIMEOUT_SEC) -> list[int]:
    """Kill what an earlier supervisor of this run folder left behind when it was killed. Returns the process ids."""
    found = [process for process, value in _marked() if value == marker]
    _signal_all(found, signal.SIGKILL)
    psutil.wait_procs(found, timeout=timeout_sec)
    return [process.pid for process in found]


def markers() -> set[str]:
    """The run folders that living processes belong to."""
    return {marker for _, marker in _marked()}


def _marked() -> Iterator[tuple[psutil.Process, str]]:
    """Processes of engines, with their markers; this one is never among them."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and (marker := process.environ().get(MARKER)):
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
        child = start(argv, env, cwd, marker)
        try:
            assert child.stdout is not None  # noqa: S101 - as `start` asks for it
            pump = OutputPump(child.stdout, LogTail(secrets, keep))
            pump.start()
            while child.returncode is None and not seen and time.monotonic() < deadline:
                child.returncode = reap().get(child.pid)
                tick()
                time.sleep(POLL_SEC)
            exit_code = child.returncode
        finally:
            stop_tree(POLITE_SEC)
            child.returncode = child.returncode or 0  # collected by stop_tree; Popen must not wait for it again
        pump.join(LAST_WORDS_SEC)
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
