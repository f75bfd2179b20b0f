"""The gate: nothing is sent to a lost engine, and one search finds it for all rows."""

import threading
from collections.abc import Callable

import gevent
import pytest

from nimdrum.base.errors import EngineStartError, EngineUnavailableError, SupervisorError
from nimdrum.scoring.traffic import Gate
from nimdrum.session.attach import Endpoint

HERE = Endpoint("127.0.0.1", 9999, "llama")
ELSEWHERE = Endpoint("127.0.0.1", 9998, "llama")
DEADLINE_SEC = 30.0


def test_it_is_open_where_the_engine_is() -> None:
    """No wait and no question."""
    gate = Gate(lambda timeout_sec, stopped: pytest.fail("nobody was to look"))
    gate.found(HERE)
    assert gate.wait(0.001) == HERE


def test_one_looks_for_all() -> None:
    """Twenty rows lost the engine; one search asks where it is, in a thread that may block, and all go there."""
    asked: list[float] = []
    release = threading.Event()

    def wait_ready(timeout_sec: float, stopped: Callable[[], bool]) -> Endpoint:
        asked.append(timeout_sec)
        assert release.wait(DEADLINE_SEC)
        return ELSEWHERE

    gate = Gate(wait_ready)
    gate.found(HERE)
    for _ in range(20):
        gate.lost(HERE)
    rows = [gevent.spawn(gate.wait, DEADLINE_SEC) for _ in range(20)]
    gevent.spawn(release.set)
    # joinall's timeout would count from when the loop last ran: some tests ago.
    assert [row.get(timeout=DEADLINE_SEC) for row in rows] == [ELSEWHERE] * 20
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
            gate.wait(DEADLINE_SEC)
    assert len(looks) == 1
    gate.found(HERE)
    assert gate.wait(DEADLINE_SEC) == HERE


@pytest.mark.parametrize("error", [SupervisorError("perhaps"), EngineUnavailableError("let go")])
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
        gate.wait(DEADLINE_SEC)
    assert gate.wait(DEADLINE_SEC) == HERE


def test_a_wait_ends_at_the_deadline_of_its_row() -> None:
    """And the search with the last row that waits."""
    given_up = threading.Event()

    def wait_ready(timeout_sec: float, stopped: Callable[[], bool]) -> Endpoint:
        while not stopped():
            given_up.wait(0.01)
        given_up.set()
        raise EngineUnavailableError("stopped")

    gate = Gate(wait_ready)
    with pytest.raises(EngineUnavailableError, match="did not come back"):
        gate.wait(0.1)
    with gevent.Timeout(DEADLINE_SEC):
        while not given_up.is_set():
            gevent.sleep(0.01)


def test_who_comes_as_the_search_is_given_up_is_not_told_so() -> None:
    """It is begun again."""
    gate: Gate
    looks: list[bool] = []

    def wait_ready(timeout_sec: float, stopped: Callable[[], bool]) -> Endpoint:
        looks.append(True)
        if len(looks) > 1:
            return HERE
        gate._waiting -= 1  # nobody waits at this look, and at the next somebody does
        assert stopped()
        gate._waiting += 1
        raise EngineUnavailableError("stopped")

    gate = Gate(wait_ready)
    assert gate.wait(DEADLINE_SEC) == HERE
    assert len(looks) == 2
