"""The window: how many rows are in flight, in one process."""

import threading
from typing import Any

import pytest

from nimdrum.engines.plan import Bounds
from nimdrum.scoring.limiter import MANY_ROWS
from nimdrum.scoring.window import COUNTED_SEC, Window, bounded


@pytest.mark.parametrize(
    ("limit", "connections", "bounds"),
    [
        (0, 10_000, Bounds(32, 128, 256, 512)),
        (5, 10_000, Bounds(5, 5, 5, 5)),
        (200, 10_000, Bounds(32, 128, 200, 200)),
        (2000, 10_000, Bounds(32, 128, 256, 2000)),
        (2000, 700, Bounds(32, 128, 256, 700)),
        (0, 20, Bounds(20, 20, 20, 20)),
    ],
)
def test_the_users_limit_or_the_engines(limit: int, connections: int, bounds: Bounds) -> None:
    """0 lets the window find its size; anything else is its ceiling. What the process can open is above both."""
    assert bounded(Bounds(32, 128, 256, 512), limit, connections) == bounds


def test_at_most_its_size_are_inside() -> None:
    """A place that was left can be taken again."""
    window = Window(2)
    assert window.enter(0)
    assert window.enter(0)
    assert not window.enter(0)
    assert window.in_flight == 2
    window.leave()
    assert window.enter(0)
    assert not window.enter(0)


def test_who_waits_is_let_in_when_a_place_is_free() -> None:
    """Each that leaves lets one in, and nobody is forgotten."""
    window = Window(1)
    assert window.enter(0)
    entered = threading.Semaphore(0)

    def wait() -> None:
        assert window.enter(30)
        entered.release()

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        window.leave()
        assert entered.acquire(timeout=30)
    for thread in threads:
        thread.join(30)
    assert window.in_flight == 1


class Clock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_grows_when_the_engine_has_no_queue() -> None:
    """After a look that finds every place taken and nothing waiting; not when places were free."""
    window = Window(Bounds(2, 4, 50, 100), Clock())
    assert not window.look(running=0, waiting=0)
    assert window.enter(0)
    assert window.enter(0)
    assert window.look(running=2, waiting=0)
    assert window.size == 4


def test_who_waits_is_let_in_when_it_grows() -> None:
    """Without anybody leaving."""
    window = Window(Bounds(1, 1, 50, 100), Clock())
    assert window.enter(0)
    entered: list[bool] = []
    waiter = threading.Thread(target=lambda: entered.append(window.enter(30)), daemon=True)
    waiter.start()
    assert window.look(running=1, waiting=0)
    waiter.join(30)
    assert entered == [True]


def test_it_is_closed_for_as_long_as_the_engine_asked() -> None:
    """Retry-After: nobody enters before, also when places are free."""
    clock = Clock()
    window = Window(Bounds(8, 8, 8, 8), clock)
    for _ in range(20):
        window.note(overload=True, retry_after_sec=7)  # one row, however often
    assert not window.look()
    for row in range(MANY_ROWS):
        window.note(overload=True, retry_after_sec=7, row=row)
    assert window.look()
    assert not window.enter(0)
    clock.now += 7
    assert window.enter(0)


def test_only_rows_that_are_refused_together_count_together() -> None:
    """Bad luck now and then adds up to nothing."""
    clock = Clock()
    window = Window(8, clock)
    for row in range(20):
        window.note(overload=True, retry_after_sec=7, row=row)
        clock.now += COUNTED_SEC
        assert not window.look()


def test_it_is_warm_while_the_engine_answers() -> None:
    """An overload is no answer, and an old answer says nothing about now."""
    clock = Clock()
    window = Window(4, clock)
    window.note(overload=True)
    assert not window.is_warm
    window.note(overload=False)
    assert window.is_warm
    clock.now += 3600
    assert not window.is_warm


def test_a_row_that_is_away_leaves_its_place_to_others() -> None:
    """And comes back when there is one; a call that has ended does not wait for it."""
    window = Window(1)
    assert window.enter(0)
    with window.away(lambda: True):
        assert window.in_flight == 0
        assert window.enter(0)
    assert window.in_flight == 2  # the call is over, so it comes back only to leave
    window.leave()
    window.leave()
    assert window.in_flight == 0


def test_a_wrong_bounds_object_is_no_window() -> None:
    """A number is a window of that size."""
    fixed: Any = Window(3)
    assert (fixed.size, fixed.is_finding) == (3, False)
