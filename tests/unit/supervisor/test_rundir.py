"""The run folder: made for its owner only, and refused where somebody else could write."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nimdrum.base.errors import SupervisorError
from nimdrum.base.files import replace_file
from nimdrum.supervisor.rundir import create_run_dir


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=["umask 022", "umask 000", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_what_is_made_is_its_owners_only(tmp_path: Path) -> None:
    """Folders 0700 and files 0600 under every umask; making it twice is the same folder."""
    root = tmp_path / "state"
    run_dir = create_run_dir(root, "engine-1")
    assert create_run_dir(root, "engine-1") == run_dir
    replace_file(run_dir.state, "{}")
    replace_file(run_dir.state, "{ }")
    assert [mode(path) for path in (root, run_dir.path, run_dir.masters)] == [0o700] * 3
    assert mode(run_dir.state) == 0o600
    assert run_dir.state.read_text() == "{ }"


def test_its_files_have_places(tmp_path: Path) -> None:
    """All below the one folder, each with a name of its own."""
    run_dir = create_run_dir(tmp_path / "state", "engine-1")
    paths = [run_dir.lease, run_dir.supervisor_lock, run_dir.start_lock, run_dir.masters, run_dir.state, run_dir.log]
    assert {path.parent for path in paths} == {tmp_path / "state" / "engine-1"}
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("level", ["root", "run", "masters"])
@pytest.mark.parametrize("others", [0o770, 0o707, 0o1777], ids=["group", "everybody", "everybody, sticky"])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, level: str, others: int) -> None:
    """At each level: they could put their own state file there."""
    run_dir = create_run_dir(tmp_path / "state", "engine-1")
    folder = {"root": tmp_path / "state", "run": run_dir.path, "masters": run_dir.masters}[level]
    folder.chmod(others)
    with pytest.raises(SupervisorError, match=r"nobody else can write.*NIMDRUM_STATE_DIR") as caught:
        create_run_dir(tmp_path / "state", "engine-1")
    assert str(folder) in str(caught.value)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """It belongs to another user, so it is theirs to change."""
    foreign = Path("/")
    if os.getuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir(mode=0o700)
        os.chown(foreign, 12345, -1)
    with pytest.raises(SupervisorError, match="belongs to uid"):
        create_run_dir(foreign, "engine-1")


@pytest.mark.parametrize("level", ["root", "run"])
def test_a_symbolic_link_is_refused(tmp_path: Path, level: str) -> None:
    """Whoever made it chose where we write."""
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    root = tmp_path / "state"
    if level == "root":
        root.symlink_to(target)
    else:
        root.mkdir(mode=0o700)
        (root / "engine-1").symlink_to(target)
    with pytest.raises(SupervisorError, match="must be a folder"):
        create_run_dir(root, "engine-1")
    assert list(target.iterdir()) == []


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    """With what to set instead."""
    (tmp_path / "state").touch()
    with pytest.raises(SupervisorError, match=r"cannot be made.*NIMDRUM_STATE_DIR"):
        create_run_dir(tmp_path / "state", "engine-1")


def test_odd_text_is_written_all_the_same(tmp_path: Path) -> None:
    """A log line with half a character in it must not stop the supervisor."""
    replace_file(tmp_path / "engine.log", "a\ud800b\n")
    assert (tmp_path / "engine.log").read_text(encoding="utf-8") == "a?b\n"


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    """And no half-written one is left beside it."""
    (tmp_path / "state.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "state.json", "{}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_everything_looks_new_again(tmp_path: Path) -> None:
    """Programs that delete old temporary files go by these times; the root's own counts, too."""
    run_dir = create_run_dir(tmp_path / "state", "engine-1")
    for path in (run_dir.lease, run_dir.supervisor_lock, run_dir.masters / "1-2"):
        path.touch()
    everything = [tmp_path / "state", run_dir.path, *run_dir.path.rglob("*")]
    assert len(everything) == 6
    for path in everything:
        os.utime(path, (0, 0))
    run_dir.freshen()
    assert all(path.stat().st_mtime > 0 and path.stat().st_atime > 0 for path in everything)
