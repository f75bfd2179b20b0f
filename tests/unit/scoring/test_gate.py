"""The gate: nothing is sent to a lost engine, and one row looks for it for all."""

import threading
from collections.abc import Callable

import pytest

from nimdrum.base.errors import EngineStartError, EngineUnavailableError, SupervisorError
from nimdrum.scoring.traffic import Gate
from nimdrum.session.attach import Endpoint

HERE = Endpoint("127.0.0.1", 9999, "llama")
ELSEWHERE = Endpoint("127.0.0.1", 9998, "llama")
DEADLINE_SEC = 30.0


def going_on() -> bool:
    return False


def test_it_is_open_where_the_engine_is() -> None:
    """No wait and no question."""
    gate = Gate(lambda timeout_sec, stopped: pytest.fail("nobody was to look"))
    gate.found(HERE)
    assert gate.wait(0.001, going_on) == HERE


def test_one_looks_for_all() -> None:
    """Twenty rows lost the engine; one asks where it is, and all go where it was found."""
    asked: list[float] = []
    release = threading.Event()

    def wait_ready(timeout_sec: float, stopped: Callable[[], bool]) -> Endpoint:
        asked.append(timeout_sec)
        assert release.wait(DEADLINE_SEC)
        return ELSEWHERE

    gate = Gate(wait_ready)
    gate.found(HERE)
    found: list[Endpoint] = []
    for _ in range(20):
        gate.lost(HERE)
    rows = [
        threading.Thread(target=lambda: found.append(gate.wait(DEADLINE_SEC, going_on)), daemon=True) for _ in range(20)
    ]
    for row in rows:
        row.start()
    release.set()
    for row in rows:
        row.join(DEADLINE_SEC)
    assert found == [ELSEWHERE] * 20
    assert len(asked) == 1


def test_an_old_loss_does_not_close_it() -> None:
    """A row that was sent to the engine's former place says nothing about the new one."""
    gate = Gate(lambda timeout_sec, stopped: HERE)
    gate.found(ELSEWHERE)
    gate.lost(HERE)
    assert gate.endpoint == ELSEWHERE


def test_an_engine_that_is_given_up_is_looked_for_once() -> None:
    """All rows that are left are told at once; an engine that a new call found is asked again."""
    looks: list[float] = []

    def wait_ready(timeout_sec: float, stopped: Callable[[], bool]) -> Endpoint:
        looks.append(timeout_sec)
        raise EngineStartError("never")

    gate = Gate(wait_ready)
    for _ in range(3):
        with pytest.raises(EngineStartError, match="never"):
            gate.wait(DEADLINE_SEC, going_on)
    assert len(looks) == 1
    gate.found(HERE)
    assert gate.wait(DEADLINE_SEC, going_on) == HERE


@pytest.mark.parametrize("error", [SupervisorError("perhaps"), EngineUnavailableError("later")])
def test_what_looking_raises_is_raised(error: Exception) -> None:
    """And the next row may look again."""
    answers: list[Exception | Endpoint] = [error, HERE]

    def wait_ready(timeout_sec: float, stopped: Callable[[], bool]) -> Endpoint:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    gate = Gate(wait_ready)
    with pytest.raises(type(error)):
        gate.wait(DEADLINE_SEC, going_on)
    assert gate.wait(DEADLINE_SEC, going_on) == HERE


@pytest.mark.parametrize(("timeout_sec", "stopped"), [(0.0, False), (DEADLINE_SEC, True)], ids=["no time", "stopped"])
def test_a_wait_ends(timeout_sec: float, stopped: bool) -> None:
    """At the row's deadline, and with its call."""
    gate = Gate(lambda timeout_sec, stopped: HERE)
    with pytest.raises(EngineUnavailableError):
        gate.wait(timeout_sec, lambda: stopped)
