"""Kernel locks: shared and exclusive, in this process and across real ones, gone with whoever held them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from nimdrum.base.errors import SupervisorError
from nimdrum.system.locks import is_locked, lock, locked, try_lock

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, getattr(fcntl, sys.argv[2]) | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""
WAIT = 'import sys; print("up", flush=True); sys.stdin.read()'


class Held:
    """A descriptor that a `with` closes."""

    def __init__(self, descriptor: int | None) -> None:
        assert descriptor is not None
        self.descriptor = descriptor

    def close(self) -> None:
        os.close(self.descriptor)


@contextmanager
def child(code: str, *arguments: object, **options: object) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that has said its first line, and ends with the block."""
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("first_shared", "second_shared", "both"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
    ids=["shared + shared", "shared + exclusive", "exclusive + shared", "exclusive + exclusive"],
)
def test_which_locks_go_together(tmp_path: Path, first_shared: bool, second_shared: bool, both: bool) -> None:
    """Two descriptors of one process are as strange to each other as two processes."""
    path = tmp_path / "lock"
    with closing(Held(try_lock(path, shared=first_shared))):
        assert is_locked(path) == (not first_shared)
        second = try_lock(path, shared=second_shared)
        assert (second is not None) == both
        if second is not None:
            os.close(second)
    assert not is_locked(path)
    with closing(Held(try_lock(path))):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_was_refused_leaks_no_descriptor(tmp_path: Path) -> None:
    """A supervisor asks for the lease ten times a second."""
    path = tmp_path / "lock"
    with closing(Held(try_lock(path))):
        for _ in range(20):
            assert try_lock(path) is None
            assert is_locked(path)
        assert len(_descriptors_of(path)) == 1


def test_a_file_that_is_not_there_is_not_locked(tmp_path: Path) -> None:
    """And asking does not make it."""
    assert not is_locked(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_waiting_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    """It asks again after each pause; here the holder lets go in the third."""
    path = tmp_path / "lock"
    with ExitStack() as holder:
        holder.enter_context(closing(Held(try_lock(path))))
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                holder.close()

        with closing(Held(lock(path, 60, sleep=pause))):
            assert is_locked(path)
    assert len(pauses) == 3


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """The error names the file and the command that shows who has it."""
    path = tmp_path / "lock"
    with closing(Held(try_lock(path, shared=True))), pytest.raises(SupervisorError, match="nimdrum status") as caught:
        lock(path, 0)
    assert str(path) in str(caught.value)


def test_a_block_holds_and_frees(tmp_path: Path) -> None:
    """Also when it is left by an error."""
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locked(path, 0):
        assert is_locked(path)
        raise KeyError
    assert not is_locked(path)


@pytest.mark.parametrize("how", ["LOCK_SH", "LOCK_EX"])
def test_another_process_holds_it_until_it_is_killed(tmp_path: Path, how: str) -> None:
    """SIGKILL frees the lock, with no help from anybody; a shared one lets others share."""
    path = tmp_path / "lock"
    with child(HOLD, path, how) as process:
        assert try_lock(path) is None
        assert is_locked(path) == (how == "LOCK_EX")
        process.kill()
        process.wait()
        with closing(Held(try_lock(path))):
            pass


def test_processes_share_a_lease(tmp_path: Path) -> None:
    """It is free for the supervisor when the last of them has ended, not before."""
    path = tmp_path / "lease"
    with child(HOLD, path, "LOCK_SH") as first, child(HOLD, path, "LOCK_SH") as second:
        for process in (first, second):
            assert try_lock(path) is None
            process.kill()
            process.wait()
        with closing(Held(try_lock(path))):
            pass


def test_a_fork_holds_on(tmp_path: Path) -> None:
    """werkzeug answers requests in forks: the lease lives until the last of them ends."""
    path = tmp_path / "lease"
    with ExitStack() as mine:
        descriptor = Held(try_lock(path, shared=True))
        mine.callback(descriptor.close)
        with child(WAIT, pass_fds=[descriptor.descriptor]) as fork:
            mine.close()
            assert try_lock(path) is None
            fork.kill()
            fork.wait()
            with closing(Held(try_lock(path))):
                pass


def test_a_started_program_does_not_inherit_it(tmp_path: Path) -> None:
    """Else the engine would keep itself alive."""
    path = tmp_path / "lease"
    descriptor = Held(try_lock(path, shared=True))
    with child(WAIT, close_fds=False):
        descriptor.close()
        with closing(Held(try_lock(path))):
            pass


def test_a_fork_that_happens_meanwhile_does_not_hold_on(tmp_path: Path) -> None:
    """werkzeug forks at any moment: a lock that was only looked at, or held for a moment, must not live as long."""
    path = tmp_path / "lock"
    with ExitStack() as stack:
        with locked(path, 0):
            mine = _descriptors_of(path)
            assert len(mine) == 1
            stack.enter_context(child(WAIT, pass_fds=mine))
        assert not is_locked(path)
        with closing(Held(try_lock(path))):
            pass


def _descriptors_of(path: Path) -> list[int]:
    """Those of this process: others come and go meanwhile."""
    everything = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return [number for number in everything if _path_of(number) == path]


def _path_of(descriptor: int) -> Path | None:
    try:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    except OSError:
        return None  # the folder that was being read


def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    """With what to set: the folder may be on a full disk, read-only, or gone."""
    with pytest.raises(SupervisorError, match=r"No such file.*NIMDRUM_STATE_DIR"):
        lock(tmp_path / "gone" / "lock", 60)
