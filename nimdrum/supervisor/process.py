"""The engine's processes: starting the first, noticing its end, and leaving none of them behind."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

LAUNCHER = Path(__file__).with_name("launch.py")
MARKER = "NIMDRUM_ENGINE_OF"
"""Variable in the environment of every process of an engine; its value is the engine's run folder."""
KILL_TIMEOUT_SEC = 10.0
POLL_SEC = 0.05
PR_SET_CHILD_SUBREAPER = 36


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
