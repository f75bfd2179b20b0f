"""Kernel locks (`flock`): they end with the process that holds them, whatever ends it."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nimdrum.base.errors import SupervisorError

RETRY_SEC = 0.02


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """The descriptor that now holds the lock on `path`, or None when somebody else's lock is in the way.

    Raises SupervisorError when the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SupervisorError(
            f"The lock {path} cannot be opened ({error.strerror}). Mend its folder, or set the environment variable "
            "NIMDRUM_STATE_DIR to one that this user can write to."
        ) from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_in_place(descriptor: int, path: Path) -> bool:
    """Whether the locked file is the one at `path`: where somebody deleted it, others lock another one."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def unlock(descriptor: int) -> None:
    """Give up the lock, also where a fork that happened meanwhile has inherited the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def lock(path: Path, timeout_sec: float, *, shared: bool = False, sleep: Callable[[float], None] = time.sleep) -> int:
    """Like `try_lock`, but waits. Raises SupervisorError after `timeout_sec`, too."""
    deadline = time.monotonic() + timeout_sec
    while True:
        descriptor = try_lock(path, shared=shared)
        if descriptor is not None:
            return descriptor
        if time.monotonic() >= deadline:
            raise SupervisorError(
                f"The lock {path} was not free within {timeout_sec:g} s: another process is starting or stopping the "
                "engine. "
                "`python -m nimdrum status` shows what it does."
            )
        sleep(RETRY_SEC)


@contextmanager
def locked(path: Path, timeout_sec: float, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock on `path`. Raises SupervisorError when it is not free within `timeout_sec`."""
    descriptor = lock(path, timeout_sec, shared=shared)
    try:
        yield
    finally:
        unlock(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the exclusive lock on `path`."""
    if not path.exists():
        return False
    descriptor = try_lock(path, shared=True)
    if descriptor is None:
        return True
    unlock(descriptor)
    return False
