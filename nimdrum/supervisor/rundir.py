"""The folder that one engine's processes share: locks, state file, log tail. Readable by its owner only."""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from nimdrum.base.errors import SupervisorError


@dataclass(frozen=True)
class RunDir:
    """Paths below one engine's folder."""

    path: Path

    @property
    def lease(self) -> Path:
        """Locked (shared) by each DRUM process that uses the engine."""
        return self.path / "lease"

    @property
    def supervisor_lock(self) -> Path:
        """Locked (exclusive) by the supervisor for as long as it lives."""
        return self.path / "supervisor.lock"

    @property
    def start_lock(self) -> Path:
        """Locked (exclusive) by whoever looks for the supervisor and may start it."""
        return self.path / "start.lock"

    @property
    def answering(self) -> Path:
        """Locked, shared, by each HTTP request until its answer is sent; not shared by a server that ends for good."""
        return self.path / "answering.lock"

    @property
    def masters(self) -> Path:
        """One empty file for each gunicorn master, which replaces workers that die: <pid>-<start time>.

        Another one, .halted, when one of its workers ends the server for good. Both go when the master is dead.
        """
        return self.path / "masters"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def inherited(self) -> Path:
        """The state that the last supervisor left, moved here before the next is started: nobody takes it for news."""
        return self.path / "inherited.json"

    @property
    def log(self) -> Path:
        """The engine's last 200 log lines."""
        return self.path / "engine.log"

    def freshen(self) -> None:
        """Make all look new to programs that delete old temporary files: a lease that is gone ends the engine."""
        for path in (self.path.parent, self.path, *self.path.rglob("*")):
            with contextlib.suppress(OSError):
                os.utime(path)


def create_run_dir(state_root: Path, name: str) -> RunDir:
    """The folder `name` below `state_root`, made where it is missing. Raises SupervisorError.

    The default root lies in a folder that everybody may write to, so a folder of somebody else, or one that
    others can write to, is refused: they could make us talk to their server.
    """
    run_dir = RunDir(state_root / name)
    for folder in (state_root, run_dir.path, run_dir.masters):
        create_folder(folder)
    return run_dir


def cannot_write(folder: Path, error: OSError) -> SupervisorError:
    """What stands in the way, and what to do."""
    return SupervisorError(
        f"The state folder {folder} cannot be written ({error.strerror}). Mend that, or set the environment variable "
        "NIMDRUM_STATE_DIR to a folder that this user can write to."
    )


def create_folder(folder: Path) -> None:
    """A folder that only this user can write to, made where it is missing. Raises SupervisorError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise SupervisorError(
            f"The state folder {folder} cannot be made ({error.strerror}). "
            "Set the environment variable NIMDRUM_STATE_DIR to a folder that this user can write to."
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise SupervisorError(
            f"The state folder {folder} belongs to uid {status.st_uid} with mode "
            f"{stat.filemode(status.st_mode)}; it must be "
            f"a folder of uid {os.getuid()} that nobody else can write to. "
            "Remove it, or set the environment variable NIMDRUM_STATE_DIR to another one."
        )
