"""What all tests share: at the end of the session no process of this project may be left."""

import contextlib
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import settings

from nimdrum.system.process import MARKER

settings.register_profile("any-machine", settings.default, deadline=None)
settings.load_profile("any-machine")


@pytest.fixture(scope="session", autouse=True)
def no_process_left_by_the_session() -> Iterator[None]:
    """Fails the session when an engine or a supervisor that a test started outlives it."""
    yield
    left = [p for p in psutil.Process().children(recursive=True) if _is_ours(p)]
    assert not left, f"processes left by the tests: {left}"


@pytest.fixture(scope="session", autouse=True)
def children_hear_ctrl_c() -> None:
    """A test run that a shell put into the background ignores SIGINT, and every child would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_ours(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return MARKER in process.environ() or "nimdrum.supervisor" in process.cmdline()
    return False


@pytest.fixture
def clean_environ() -> dict[str, str]:
    """An environment for child processes without anything that belongs to the test runner or the developer."""
    keep = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in keep if name in os.environ}
