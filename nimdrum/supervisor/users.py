"""Who still uses the engine: told by the kernel, not by bookkeeping."""

from pathlib import Path

from nimdrum.supervisor.rundir import RunDir
from nimdrum.system.locks import try_lock, unlock

HALTED = ".halted"


def register_master(run_dir: RunDir, pid: int) -> None:
    """Say that gunicorn's master `pid` replaces workers that die, so that their engine must wait for the next one."""
    if (name := process_name(pid)) is not None:
        (run_dir.masters / name).touch(mode=0o600)


def first_to_halt(run_dir: RunDir, pid: int) -> bool:
    """Whether no other worker of gunicorn's master `pid` said before that it ends the server for good."""
    if (name := process_name(pid)) is not None:
        try:
            (run_dir.masters / f"{name}{HALTED}").touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
        except OSError:
            pass  # a full disk must not keep a dead server alive
    return True


def take_if_unused(run_dir: RunDir) -> int | None:
    """The lease, held exclusively, when no process uses the engine and none will; else None.

    Unused means: no DRUM process holds the lease, and no gunicorn master that had workers here is alive.
    """
    descriptor = try_lock(run_dir.lease)
    if descriptor is None:
        return None
    try:
        used = any(_alive(entry) for entry in run_dir.masters.iterdir())
    except BaseException:
        unlock(descriptor)
        raise
    if used:
        unlock(descriptor)
        return None
    return descriptor


def _alive(entry: Path) -> bool:
    """Whether the master of this file still runs; the file of a dead one is removed."""
    name = entry.name.removesuffix(HALTED)
    pid = name.partition("-")[0]
    if pid.isdigit() and process_name(int(pid)) == name:
        return True
    entry.unlink(missing_ok=True)
    return False


def process_name(pid: int) -> str | None:
    """`<pid>-<start time in the kernel's ticks since boot>`; None when the process is gone or a zombie.

    It names one process for ever, where a pid comes again: in a container the first is always 1.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else f"{pid}-{after_name[19]}"
