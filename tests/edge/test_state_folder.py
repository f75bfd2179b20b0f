"""The folder that an engine's processes share: full, stale, gone, or watched by nobody any more."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from edge_world import READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for
from test_owners import HOLDER, answer, holder

from nimdrum.base.errors import SupervisorError
from nimdrum.base.files import OURS
from nimdrum.supervisor.state import EngineState, Phase, read_state
from nimdrum.supervisor.users import process_name


def block_writing(folder: Path, writer: int) -> list[Path]:
    """As on a full disk, process `writer` can write no file: a folder has the name of each temporary one."""
    blocks = [folder / f"{OURS}{name}.{writer}" for name in ("state.json", "engine.log")]
    for block in blocks:
        block.mkdir()
    return blocks


def now(world: World) -> EngineState:
    state = world.models[-1].attachment.state()
    assert state is not None
    return state


def test_a_full_disk_does_not_end_an_engine(world: World) -> None:
    """The supervisor goes on, restarts included, and what it could not write is written when there is room again."""
    world.fake()
    model = world.ready_model(max_watchdog_backoff_sec=1)
    before = now(world)
    blocks = block_writing(model.attachment.run_dir.path, before.supervisor_pid)
    assert before.engine_pid is not None
    os.kill(before.engine_pid, signal.SIGKILL)
    wait_for(lambda: len(world.starts()) == 2, READY_SEC)
    assert now(world) == before  # an old state, but the same supervisor
    for block in blocks:
        block.rmdir()
    wait_for(lambda: now(world).restarts == 1 and now(world).phase is Phase.RUNNING, READY_SEC)
    assert now(world).supervisor_pid == before.supervisor_pid


def test_a_folder_that_cannot_be_written_is_said_before_the_start(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """No engine is started whose state nobody could see."""
    world.fake()
    model = world.model()
    model.attachment.release(READY_SEC)
    for path in (model.attachment.run_dir.state, model.attachment.run_dir.inherited):
        path.unlink(missing_ok=True)
        (path / "in the way").mkdir(parents=True)
    with pytest.raises(SupervisorError, match="before it began"):
        world.model()
    assert "The supervisor ends, and its engine with it" in capfd.readouterr().err


def test_a_folder_that_is_deleted_ends_the_engine(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody can tell any more who uses it; the log says why."""
    world.fake()
    model = world.ready_model()
    shutil.rmtree(model.attachment.run_dir.path)
    world.wait_until_empty()
    wait_for(lambda: "and its engine with it" in capfd.readouterr().err, READY_SEC)
    with pytest.raises(SupervisorError, match="NIMDRUM_STATE_DIR"):
        model.attachment.ensure_supervisor()


def test_nobody_takes_an_old_state_for_news(world: World) -> None:
    """The state is the new supervisor's own before anything slow happens, such as a driver that does not answer."""
    folder = world.folder / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"
    seen = world.folder / "seen.jsonl"
    program.write_text(
        f"#!/bin/sh\ntr -d '\\n' <\"$(echo {world.state_root}/*/state.json)\" >>{seen}\necho >>{seen}\necho 10\n"
    )
    program.chmod(0o755)
    world.environ["PATH"] = f"{folder}:{world.environ['PATH']}"
    world.fake()
    model = world.ready_model()
    killed = now(world)
    os.kill(killed.supervisor_pid, signal.SIGKILL)
    wait_for(lambda: model.attachment.state() is None, READY_SEC)
    model.ready(READY_SEC)
    states = [json.loads(line) for line in seen.read_text().splitlines()]
    assert [state["supervisor_pid"] for state in states] == [killed.supervisor_pid, now(world).supervisor_pid]
    assert {state["phase"] for state in states} == {"STARTING"}
    inherited = read_state(model.attachment.run_dir.inherited)
    assert inherited is not None
    assert inherited.supervisor_pid == killed.supervisor_pid


def test_what_was_abandoned_is_killed_by_the_next_engine_of_any_settings(world: World) -> None:
    """Supervisor and users killed in one instant leave the engine's children, which may hold the GPU."""
    world.fake(grandchildren=1, grandchildren_ignore_sigterm=True, grandchildren_own_session=True)
    with holder(world) as user:
        answer(user)
        (run_folder,) = [path for path in world.state_root.iterdir() if path.is_dir()]
        state = read_state(run_folder / "state.json")
        assert state is not None
        (orphan,) = world.starts()[0]["grandchildren"]
        pids = (user.pid, state.supervisor_pid)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
        user.wait()
        wait_for(lambda: {p.pid for p in world.processes()} == {orphan}, READY_SEC)
    world.ready_model(served_model_name="another-engine")
    assert orphan not in {p.pid for p in world.processes()}


def test_a_reader_that_is_stuck_does_not_keep_the_engine(world: World) -> None:
    """Whoever reads DRUM's log may stop reading it: the supervisor must not wait for him, least of all with a GPU."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    world.fake()
    command = [sys.executable, str(HOLDER), str(world.folder)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": writer}
    user = subprocess.Popen(command, text=True, **streams)  # type: ignore[call-overload]
    try:
        wait_for(lambda: bool(world.starts()), READY_SEC)
        answer(user)
    finally:
        user.kill()
        user.communicate()
    world.wait_until_empty()
    os.close(reader)
    os.close(writer)


HALT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from edge_world import World
from nimdrum import lifecycle
world = World(Path(sys.argv[3]), {"PATH": "/usr/bin:/bin"})
lifecycle._halt(world.hosting(gunicorn_master=int(sys.argv[4])), world.model().attachment)
"""


def test_another_master_with_the_same_pid_is_another_one(world: World) -> None:
    """In a container the master is always process 1, and its temporary folder may outlive it."""
    world.fake()
    run_dir = world.ready_model().attachment.run_dir
    master = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        (run_dir.path / f"halted-{master.pid}").touch()
        (run_dir.masters / f"{master.pid}-1.halted").touch()
        search = (str(REPOSITORY), str(Path(__file__).parent))
        path = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
        command = [sys.executable, "-c", HALT, *search, str(world.folder), str(master.pid)]
        assert subprocess.run(command, env=path, timeout=READY_SEC).returncode == 3
        assert (run_dir.masters / f"{process_name(master.pid)}.halted").exists()
    finally:
        master.kill()
        master.communicate()
    world.models[-1].attachment.release(READY_SEC)
    assert list(run_dir.masters.iterdir()) == []  # a server that fails again and again leaves no heap of them
