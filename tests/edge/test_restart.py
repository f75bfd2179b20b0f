"""After ready: an engine that dies is started again, so often as is allowed, and its whole tree is gone before."""

import os
import signal

import pytest
from edge_world import READY_SEC, World
from fake_nim.run import wait_for

from nimdrum.base.errors import EngineStartError
from nimdrum.supervisor.state import EngineState, Phase


def _state(world: World) -> EngineState:
    state = world.models[-1].attachment.state()
    assert state is not None
    return state


def test_a_killed_engine_comes_back(world: World) -> None:
    """SIGKILL of the engine: its children are stopped, a new one is ready, and the count and cause say what was."""
    world.fake(grandchildren=1, grandchildren_own_session=True)
    model = world.ready_model(max_watchdog_backoff_sec=1)
    before = _state(world)
    assert before.engine_pid is not None
    os.kill(before.engine_pid, signal.SIGKILL)
    wait_for(lambda: (now := _state(world)).phase is not Phase.RUNNING or now.restarts == 1, READY_SEC)
    model.ready(READY_SEC)
    after = _state(world)
    assert after.engine_pid != before.engine_pid
    assert after.restarts == 1
    assert after.cause is not None
    assert "SIGKILL" in after.cause
    orphans = set(world.starts()[0]["grandchildren"])
    assert not orphans & {p.pid for p in world.processes()}


def test_an_engine_that_keeps_dying_is_given_up(world: World) -> None:
    """The budget of restarts is kept, and then the cause stands for everybody to read."""
    world.fake()
    model = world.ready_model(max_watchdog_restarts=1, max_watchdog_backoff_sec=1)
    for _ in range(2):
        pid = _state(world).engine_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: _state(world).engine_pid != pid, READY_SEC)
        if _state(world).phase is not Phase.FATAL:
            wait_for(lambda: _state(world).phase in (Phase.RUNNING, Phase.FATAL), READY_SEC)
    with pytest.raises(EngineStartError, match="max_watchdog_restarts"):
        model.ready(READY_SEC)
    assert len(world.starts()) == 2
    assert _state(world).phase is Phase.FATAL
