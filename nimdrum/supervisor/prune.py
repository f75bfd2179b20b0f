"""What earlier engines left in the state root: processes that nobody stops any more, and folders that nobody needs.

Each change of an engine's settings makes another run folder, so without an end there would be ever more of them.
Locks decide what is in use, never a clock or a list of process ids.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nimdrum.base.errors import SupervisorError
from nimdrum.supervisor.rundir import RunDir
from nimdrum.supervisor.users import take_if_unused
from nimdrum.system import process
from nimdrum.system.locks import locked, unlock

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
