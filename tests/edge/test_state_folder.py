"""The folder that an engine's processes share: full, stale, gone, or watched by nobody any more."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests
from drum_process import drum_server
from edge_world import READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for
from test_owners import HOLDER, answer, holder

from nimdrum.base.errors import SupervisorError
from nimdrum.base.files import OURS
from nimdrum.supervisor.state import EngineState, Phase, read_state
from nimdrum.supervisor.users import process_name
from nimdrum.system.locks import is_locked


def block_writing(folder: Path, writer: int) -> list[Path]:
    """As on a full disk, process `writer` can write no file: a folder has the name of each temporary one."""
    blocks = [folder / f"{OURS}{name}.{writer}" for name in ("state.json", "engine.log")]
    for block in blocks:

        def blocked(block: Path = block) -> bool:
            with contextlib.suppress(FileExistsError):  # it is writing that file
                block.mkdir()
            return block.is_dir()

        wait_for(blocked, READY_SEC)
    return blocks


def now(world: World) -> EngineState:
    state = world.models[-1].attachment.state()
    assert state is not None
    return state


def test_a_full_disk_does_not_end_an_engine(world: World) -> None:
    """The supervisor goes on, restarts included, and what it could not write is written when there is room again."""
    world.fake()
    model = world.ready_model(max_watchdog_backoff_sec=1)
    blocks = block_writing(model.attachment.run_dir.path, now(world).supervisor_pid)
    before = now(world)  # the last that it wrote
    assert before.engine_pid is not None
    os.kill(before.engine_pid, signal.SIGKILL)
    wait_for(lambda: len(world.starts()) == 2, READY_SEC)
    assert now(world) == before  # an old state, but the same supervisor
    for block in blocks:
        block.rmdir()
    wait_for(lambda: now(world).restarts == 1 and now(world).phase is Phase.RUNNING, READY_SEC)
    assert now(world).supervisor_pid == before.supervisor_pid


def test_a_folder_that_cannot_be_written_is_said_before_the_start(world: World) -> None:
    """No engine is started whose state nobody could see."""
    world.fake()
    model = world.model()
    model.attachment.release(READY_SEC)
    before = len(world.starts())
    (model.attachment.run_dir.path / f"{OURS}state.probe.{os.getpid()}").mkdir()
    with pytest.raises(SupervisorError, match=r"^The state folder .* cannot be written \(Is a directory\)"):
        world.model()
    assert len(world.starts()) == before


def deleted(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbled(path: Path) -> None:
    path.write_bytes(b"\xff\x00" * 200)


def nested(path: Path) -> None:
    path.write_bytes(b"[" * 100_000 + b"]" * 100_000)


def timeless(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "since": None}))


def of_another(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "port": 1}))


@pytest.mark.parametrize("spoil", [deleted, cut, garbled, nested, timeless, of_another])
def test_a_spoilt_state_is_written_again(world: World, spoil: Callable[[Path], None]) -> None:
    """While all runs the engine stays; and a supervisor that inherits a spoilt one starts all the same."""
    world.fake()
    model = world.ready_model()
    before = now(world)
    path = model.attachment.run_dir.state
    spoil(path)

    def is_back() -> bool:
        state = model.attachment.state()
        return state is not None and replace(state, since=before.since, last_lines=before.last_lines) == before

    wait_for(is_back, READY_SEC)
    assert len(world.starts()) == 1
    os.kill(before.supervisor_pid, signal.SIGSTOP)
    spoil(path)
    os.kill(before.supervisor_pid, signal.SIGKILL)
    wait_for(lambda: not is_locked(model.attachment.run_dir.supervisor_lock), READY_SEC)
    model.ready(READY_SEC)
    assert len(world.starts()) == 2


def test_a_folder_that_is_deleted_is_made_again(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody could tell any more who uses the engine, so it ends, and the log says why; the next one has its users."""
    world.fake()
    model = world.ready_model()
    shutil.rmtree(model.attachment.run_dir.path.rename(world.folder / "lost"))
    world.wait_until_empty()
    wait_for(lambda: "and its engine with it" in capfd.readouterr().err, READY_SEC)
    model.ready(READY_SEC)
    assert not model.attachment.has_lost_lease()
    assert len(world.starts()) == 2


def opened(process: psutil.Process) -> list[str]:
    """What its descriptors lead to; a file that is gone is called so."""
    found = []
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            found.append(str(path.readlink()))
    return found


@pytest.mark.drum
@pytest.mark.parametrize("name", ["", "lease", "supervisor.lock", "masters"])
def test_a_server_survives_the_loss_of_its_state_folder(world: World, name: str) -> None:
    """All of it, or a file that somebody watches: both workers have an engine again, the same one."""
    world.fake()
    with drum_server(world, worker_class="gevent", workers=2) as drum:
        drum.wait_health(200)
        (state,) = world.state_root.glob("*/state.json")
        first = read_state(state)
        assert first is not None
        lost = state.parent / name
        if lost.is_dir():
            shutil.rmtree(lost.rename(world.folder / "lost"))  # at once, or a worker writes into it meanwhile
        else:
            lost.unlink()
        workers = psutil.Process(drum.process.pid).children()
        assert len(workers) == 2

        def mended() -> bool:
            supervisors = world.running("nimdrum.supervisor")
            return len(supervisors) == 1 and all(str(state.parent / "lease") in opened(worker) for worker in workers)

        wait_for(mended, READY_SEC)
        drum.wait_health(200)
        answers = requests.post(f"{drum.url}/predict/", data="promptText\nhello\n", timeout=READY_SEC)
        assert answers.json()["predictions"] == ["echo: hello"]
    world.wait_until_empty()


LOST = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from edge_world import World
from nimdrum import lifecycle
lifecycle.LOST_SEC = 1.0
world = World(Path(sys.argv[3]), {"PATH": "/usr/bin:/bin"})
lifecycle._watch(world.hosting(), world.model().attachment)
"""


def test_a_state_that_stays_away_ends_the_server(world: World) -> None:
    """With code 3, so that the container is replaced: health could never tell the truth again."""
    world.fake()
    run_dir = world.ready_model().attachment.run_dir
    block_writing(run_dir.path, now(world).supervisor_pid)  # or it may write the state again in between
    run_dir.state.unlink()
    run_dir.state.mkdir()
    path = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
    command = [sys.executable, "-c", LOST, str(REPOSITORY), str(Path(__file__).parent), str(world.folder)]
    done = subprocess.run(command, env=path, timeout=READY_SEC, capture_output=True, text=True)
    assert done.returncode == 3
    assert "nobody could tell how the engine is" in done.stderr


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
