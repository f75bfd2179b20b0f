"""What earlier engines left: folders are deleted and processes killed only where nobody has them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from nimdrum.supervisor.rundir import RunDir, create_run_dir
from nimdrum.supervisor.users import KEPT_FOLDERS, ROOT_LOCK, is_used, prune, register_master, sweep_abandoned
from nimdrum.system.locks import lock, locked
from nimdrum.system.process import MARKER

DAY_SEC = 86400


class Descriptor:
    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        os.close(self.number)


def name(number: int) -> str:
    return f"my-code-{number:08x}-{number:012x}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five run folders too many; number 0 is the oldest."""
    root = tmp_path / "state"
    for number in range(KEPT_FOLDERS + 5):
        run_dir = create_run_dir(root, name(number))
        run_dir.state.write_text("{}")
        run_dir.lease.touch()
        os.utime(run_dir.path, (number * DAY_SEC, number * DAY_SEC))
    return root


def left(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {ROOT_LOCK}


def test_the_oldest_go(root: Path) -> None:
    """And all the younger ones stay, with what is in them."""
    deleted = prune(root)
    assert sorted(path.name for path in deleted) == [name(number) for number in range(5)]
    assert left(root) == {name(number) for number in range(5, KEPT_FOLDERS + 5)}
    assert prune(root) == []
    assert all(RunDir(root / entry).state.exists() for entry in left(root))


@contextmanager
def shared_lease(run_dir: RunDir) -> Iterator[None]:
    with closing(Descriptor(lock(run_dir.lease, 0, shared=True))):
        yield


@contextmanager
def living_master(run_dir: RunDir) -> Iterator[None]:
    register_master(run_dir, os.getpid())
    yield


USES: dict[str, Callable[[RunDir], object]] = {
    "a DRUM process": shared_lease,
    "a supervisor": lambda run_dir: locked(run_dir.supervisor_lock, 0),
    "somebody who starts it": lambda run_dir: locked(run_dir.start_lock, 0),
    "a gunicorn master": living_master,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_in_use_stays(root: Path, use: Callable[[RunDir], object]) -> None:
    """However old it is."""
    with ExitStack() as held:
        held.enter_context(use(RunDir(root / name(0))))  # type: ignore[arg-type]
        os.utime(root / name(0), (0, 0))
        assert len(prune(root)) == 4
        assert name(0) in left(root)


def test_nothing_goes_while_somebody_attaches(root: Path) -> None:
    """Between the making of a folder and the lease in it, nothing else says that it is wanted."""
    with locked(root / ROOT_LOCK, 0, shared=True):
        assert prune(root) == []


def test_other_folders_stay(root: Path) -> None:
    """The root may be a folder of the user's, and the weights' tools have folders there, too."""
    others = ("warm-0123456789ab", "photos", "my-code-xyz-000000000001")
    for other in others:
        (root / other).mkdir()
        os.utime(root / other, (0, 0))
    prune(root)
    assert set(others) <= left(root)


def test_a_root_that_is_gone_is_no_error(tmp_path: Path) -> None:
    assert prune(tmp_path / "missing") == []


@contextmanager
def marked_process(folder: Path) -> Iterator[psutil.Process]:
    """A process that says of itself that it belongs to an engine of `folder`."""
    command = [sys.executable, "-S", "-c", 'import sys; print("up", flush=True); sys.stdin.read()']
    environ = {**os.environ, MARKER: str(folder)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.communicate()


def test_an_abandoned_process_is_killed(tmp_path: Path) -> None:
    """Whatever engine it was of: it may hold a GPU."""
    run_dir = create_run_dir(tmp_path, name(1))
    with marked_process(run_dir.path) as process:
        assert sweep_abandoned(tmp_path) == [process.pid]
        assert sweep_abandoned(tmp_path) == []


@pytest.mark.parametrize("held", ["supervisor_lock", "start_lock"])
def test_a_process_of_a_living_engine_is_not(tmp_path: Path, held: str) -> None:
    run_dir = create_run_dir(tmp_path, name(1))
    with marked_process(run_dir.path) as process, locked(getattr(run_dir, held), 0):
        assert sweep_abandoned(tmp_path) == []
        assert process.is_running()


@pytest.mark.parametrize("folder", ["warm-0123456789ab", f"elsewhere/{name(1)}"])
def test_other_peoples_processes_are_not(tmp_path: Path, folder: str) -> None:
    """A download of `nimdrum warm` has locks of its own, and another root is another user's business."""
    (tmp_path / folder).mkdir(parents=True)
    with marked_process(tmp_path / folder) as process:
        assert sweep_abandoned(tmp_path) == []
        assert process.is_running()


def test_who_uses_an_engine(tmp_path: Path) -> None:
    """Who has the lease with others, and a gunicorn master. A supervisor that ends has it for itself."""
    run_dir = create_run_dir(tmp_path / "state", name(1))
    assert not is_used(run_dir)
    for shared in (True, False):
        with closing(Descriptor(lock(run_dir.lease, 0, shared=shared))):
            assert is_used(run_dir) == shared
    register_master(run_dir, os.getpid())
    assert is_used(run_dir)
