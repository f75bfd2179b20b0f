"""Kernel locks (`flock`): they end with the process that holds them, whatever ends it."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nimdrum.errors import SupervisorError

RETRY_SEC = 0.02


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """The descriptor that now holds the lock on `path`, or None when somebody else's lock is in the way."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def lock(path: Path, timeout_sec: float, *, shared: bool = False, sleep: Callable[[float], None] = time.sleep) -> int:
    """Like `try_lock`, but waits. Raises SupervisorError after `timeout_sec`."""
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
def locked(path: Path, timeout_sec: float) -> Iterator[None]:
    """Hold the exclusive lock on `path`. Raises SupervisorError when it is not free within `timeout_sec`."""
    descriptor = lock(path, timeout_sec)
    try:
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the exclusive lock on `path`."""
    if not path.exists():
        return False
    descriptor = try_lock(path, shared=True)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False
