"""Who keeps the engine: one for many processes, for as long as one of them lives, and not a moment longer."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_world import READY_SEC, World
from fake_nim.run import wait_for

from nimdrum.supervisor.state import Phase

HOLDER = Path(__file__).with_name("holder.py")


@contextlib.contextmanager
def holder(world: World, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A child process that holds the world's engine."""
    process = subprocess.Popen(
        [sys.executable, str(HOLDER), str(world.folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(process: "subprocess.Popen[str]") -> tuple[int, int]:
    """Port and engine pid that a holder reports; waits until its engine is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the holder ended before its engine was ready"
    port, pid = line.split()
    return int(port), int(pid)


def test_many_processes_at_once_share_one_engine(world: World) -> None:
    """Four processes that attach in the same instant get the same engine, started once."""
    world.fake(start_delay_sec=0.5)
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(holder(world)) for _ in range(4)]
        assert len({answer(process) for process in holders}) == 1
        assert len(world.starts()) == 1
    world.wait_until_empty()


def test_the_engine_lives_until_its_last_user_is_gone(world: World) -> None:
    """One user ends cleanly, the other is killed: the engine outlives the first and not the second."""
    world.fake()
    with holder(world) as first, holder(world) as second:
        assert answer(first) == answer(second)
        _, pid = _ends(first)
        os.kill(pid, 0)
        second.kill()
        second.wait()
        world.wait_until_empty()
    assert len(world.starts()) == 1


def _ends(process: "subprocess.Popen[str]") -> tuple[int, int]:
    """Let a holder end by itself; the exit code, and the pid of its world's engine."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.wait(READY_SEC), _engine_pid(process)


def _engine_pid(process: "subprocess.Popen[str]") -> int:
    world_folder = Path(str(process.args[2]))  # type: ignore[index]
    return int(World(world_folder, {}).starts()[-1]["pid"])


def test_a_killed_worker_finds_its_engine_again(world: World) -> None:
    """While gunicorn's master lives the engine waits for the next worker; when the master dies too, it is stopped."""
    world.fake()
    master = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with holder(world, str(master.pid)) as worker:
            before = answer(worker)
            worker.kill()
            worker.wait()
            with holder(world, str(master.pid)) as replacement:
                assert answer(replacement) == before
            assert len(world.starts()) == 1
            os.kill(before[1], 0)  # nobody holds the lease now, but the master would start a worker
    finally:
        master.kill()
        master.communicate()
    world.wait_until_empty()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_supervisor_that_is_told_to_end_stops_its_engine(world: World, number: signal.Signals) -> None:
    """A signal to the supervisor ends the engine too; the next who needs it gets a new one."""
    world.fake()
    model = world.ready_model()
    first = model.attachment.state()
    assert first is not None
    os.kill(first.supervisor_pid, number)
    wait_for(lambda: model.attachment.state() is None, READY_SEC)
    assert not world.processes()
    model.ready(READY_SEC)
    assert len(world.starts()) == 2


def test_a_killed_supervisor_takes_the_engine_along_and_leaves_no_orphan(world: World) -> None:
    """The kernel kills the engine; its children, which it could not reach, are swept before the next start."""
    world.fake(grandchildren=2, grandchildren_ignore_sigterm=True, grandchildren_own_session=True)
    model = world.ready_model(stop_timeout_sec=1)
    state = model.attachment.state()
    assert state is not None
    orphans = world.starts()[0]["grandchildren"]
    os.kill(state.supervisor_pid, signal.SIGKILL)
    wait_for(lambda: model.attachment.state() is None, READY_SEC)
    wait_for(lambda: state.engine_pid not in [p.pid for p in world.processes()], READY_SEC)
    model.ready(READY_SEC)
    alive = [p.pid for p in world.processes()]
    assert not set(orphans) & set(alive)
    assert len(world.starts()) == 2


def test_the_last_user_sweeps_after_a_killed_supervisor(world: World) -> None:
    """Nobody comes after us whose supervisor would do it: whoever lets go last leaves no orphan."""
    world.fake(grandchildren=2, grandchildren_ignore_sigterm=True, grandchildren_own_session=True)
    model = world.ready_model()
    state = model.attachment.state()
    assert state is not None
    os.kill(state.supervisor_pid, signal.SIGKILL)
    model.attachment.release(READY_SEC)
    world.wait_until_empty()


def test_whoever_comes_while_the_engine_stops_gets_a_new_one(world: World) -> None:
    """Attach during a slow stop: it waits for the old tree to be gone, then starts afresh on a free port."""
    world.fake(grandchildren=1, grandchildren_ignore_sigterm=True)
    model = world.ready_model(stop_timeout_sec=1)
    first = model.attachment.state()
    assert first is not None
    model.attachment.release()
    wait_for(lambda: (state := model.attachment.state()) is None or state.phase is Phase.STOPPING, READY_SEC)
    second = world.ready_model(stop_timeout_sec=1).attachment.state()
    assert second is not None
    assert second.supervisor_pid != first.supervisor_pid
    pids = {first.engine_pid, *world.starts()[0]["grandchildren"]}
    assert not pids & {p.pid for p in world.processes()}
