"""DRUM 1.17.18 is gunicorn's parent: whatever ends the one, nothing stays of the other, and the cause is told."""

from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest
from drum_process import SERVERS, aftermath, drum_server
from edge_world import World
from interpreters import pythons

from matrix.cells import ends
from matrix.environments import ready_environment

OLDEST = ends()[0]
pytestmark = [
    pytest.mark.matrix,
    pytest.mark.ends,
    pytest.mark.timeout(1200),  # the first test installs the environment
    pytest.mark.xdist_group(OLDEST.environment),
]


@pytest.fixture
def older(world: World) -> World:
    """A world with the oldest DRUM in it."""
    python = next(pythons(OLDEST.python), None)
    if python is None:
        pytest.skip(f"not run: this machine has no Python {OLDEST.python}")
    world.drum = ready_environment(python, OLDEST) / "drum"
    return world


@pytest.mark.parametrize(
    ("mode", "number"), [("gevent 1", SIGKILL), ("sync 2", SIGKILL), ("sync 1", SIGINT), ("gevent 2", SIGTERM)]
)
def test_a_signal_ends_all(older: World, mode: str, number: Signals) -> None:
    """While a server runs: DRUM alone gets the signal."""
    older.fake(grandchildren=1, grandchildren_ignore_sigterm=True, grandchildren_own_session=True)
    with drum_server(older, **SERVERS[mode], stop_timeout_sec=1) as drum:
        drum.wait_health(200)
        drum.process.send_signal(number)
        assert aftermath(older, drum).endswith("nothing left")
    assert drum.process.returncode != 0


@pytest.mark.parametrize("mode", ["sync 2", "gevent 1"])
def test_an_engine_that_cannot_start(older: World, mode: str) -> None:
    """gunicorn ends with 3, and DRUM makes 1 of it."""
    older.fake(die_before_ready=True, last_lines=("No space left on device",))
    with drum_server(older, **SERVERS[mode]) as drum:
        assert aftermath(older, drum) == "exit 1, nothing left"
    assert "disk is full" in drum.printed


def test_the_error_server_and_a_bad_parameter(older: World) -> None:
    """It does not hold the server up."""
    older.fake()
    older.environ["WITH_ERROR_SERVER"] = "1"
    with drum_server(older, **SERVERS["gevent 1"], temperature=9) as drum:
        assert aftermath(older, drum) == "exit 1, nothing left"
    assert "temperature" in drum.printed


def test_the_error_server_and_an_engine_that_cannot_start(older: World) -> None:
    """It answers with the cause, as with every DRUM."""
    older.fake(die_before_ready=True, last_lines=("No space left on device",))
    older.environ["WITH_ERROR_SERVER"] = "1"
    with drum_server(older, **SERVERS["gevent 1"]) as drum:
        assert "disk is full" in drum.wait_health(513).text
