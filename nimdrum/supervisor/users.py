"""Who still uses the engine: told by the kernel, not by bookkeeping."""

import os
from pathlib import Path

from nimdrum.supervisor.locks import try_lock
from nimdrum.supervisor.rundir import RunDir


def register_master(run_dir: RunDir, pid: int) -> None:
    """Say that gunicorn's master `pid` replaces workers that die, so that their engine must wait for the next one."""
    started = _start_time(pid)
    if started is not None:
        (run_dir.masters / f"{pid}-{started}").touch(mode=0o600)


def take_if_unused(run_dir: RunDir) -> int | None:
    """The lease, held exclusively, when no process uses the engine and none will; else None.

    Unused means: no DRUM process holds the lease, and no gunicorn master that had workers here is alive.
    """
    descriptor = try_lock(run_dir.lease)
    if descriptor is None:
        return None
    if any(_alive(entry) for entry in run_dir.masters.iterdir()):
        os.close(descriptor)
        return None
    return descriptor


def _alive(entry: Path) -> bool:
    """Whether the master of this file still runs; the file of a dead one is removed."""
    pid, _, started = entry.name.partition("-")
    if pid.isdigit() and _start_time(int(pid)) == started:
        return True
    entry.unlink(missing_ok=True)
    return False


def _start_time(pid: int) -> str | None:
    """When the process started, in the kernel's ticks since boot; None when it is gone or a zombie.

    With the pid it names one process for ever: pids come again.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else after_name[19]
