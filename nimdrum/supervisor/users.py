"""Who still uses an engine, told by the kernel and not by bookkeeping; and what goes when nobody does.

Each change of an engine's settings makes another run folder, so without an end there would be ever more of them.
Locks decide what is in use, never a clock or a list of process ids.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nimdrum.base.errors import SupervisorError
from nimdrum.supervisor.rundir import RunDir, cannot_write
from nimdrum.system import process
from nimdrum.system.locks import is_locked, locked, try_lock, unlock

HALTED = ".halted"


def register_master(run_dir: RunDir, pid: int) -> None:
    """Say that gunicorn's master `pid` replaces workers that die, so that their engine must wait for the next one.

    Raises SupervisorError.
    """
    if (name := process_name(pid)) is not None:
        try:
            (run_dir.masters / name).touch(mode=0o600)
        except OSError as error:
            raise cannot_write(run_dir.masters, error) from error


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


def is_used(run_dir: RunDir) -> bool:
    """Whether some process uses the engine, or will. A supervisor that holds the lease ends, so that nobody does."""
    if (lease := take_if_unused(run_dir)) is not None:
        unlock(lease)
        return False
    return not is_locked(run_dir.lease)


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


KEPT_FOLDERS = 20
ROOT_LOCK = "folders.lock"
"""Held (shared) by who makes a run folder until it holds the lease in it, and (exclusive) by who deletes some."""
RUN_FOLDER = re.compile(r".+-[0-9a-f]{8}-[0-9a-f]{12}")
"""Names as `attach` makes them: the root may be a folder that holds other things too."""


def sweep_abandoned(state_root: Path) -> list[int]:
    """Kill what supervisors below `state_root` left behind that were killed with all their users. Returns process ids.

    The next supervisor of the same engine would do it, but one of other settings needs the GPU just as much.
    """
    killed: list[int] = []
    for marker in process.markers():
        folder = Path(marker)
        if folder.parent == state_root and RUN_FOLDER.fullmatch(folder.name):
            with suppress(SupervisorError, OSError), _without_supervisor(RunDir(folder)):
                killed += process.sweep(marker)
    return killed


def prune(state_root: Path) -> list[Path]:
    """Delete the oldest run folders that nobody uses, down to KEPT_FOLDERS. Returns them. Raises nothing."""
    deleted: list[Path] = []
    with suppress(SupervisorError, OSError), locked(state_root / ROOT_LOCK, 0):
        folders = [path for path in state_root.iterdir() if RUN_FOLDER.fullmatch(path.name) and path.is_dir()]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in folders[KEPT_FOLDERS:]:
            with suppress(SupervisorError, OSError), _unused(RunDir(path)):
                shutil.rmtree(path)
                deleted.append(path)
    return deleted


@contextmanager
def _unused(run_dir: RunDir) -> Iterator[None]:
    """Raises SupervisorError when somebody uses the engine of `run_dir`, starts it or watches over it."""
    lease = take_if_unused(run_dir)
    if lease is None:
        raise SupervisorError(f"{run_dir.path} is in use.")
    try:
        with _without_supervisor(run_dir):
            yield
    finally:
        unlock(lease)


@contextmanager
def _without_supervisor(run_dir: RunDir) -> Iterator[None]:
    """Raises SupervisorError when `run_dir` has a supervisor, or gets one at this moment."""
    with ExitStack() as held:
        held.enter_context(locked(run_dir.start_lock, 0))
        held.enter_context(locked(run_dir.supervisor_lock, 0))
        yield
