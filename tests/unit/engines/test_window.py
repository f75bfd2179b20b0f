"""The window: how many rows are in flight, in one process."""

from typing import Any

import pytest

from nimdrum.engines.limiter import MANY_ROWS
from nimdrum.engines.plan import Bounds
from nimdrum.engines.window import COUNTED_SEC, FIRST_ROW_SEC, WARM_SEC, Window, bounded


class Clock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def warm(bounds: Bounds | int, clock: Clock | None = None) -> Window:
    """A window to an engine that has just answered."""
    window = Window(bounds, clock or Clock())
    window.enter()
    window.leave()
    return window


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
    window = warm(2)
    window.enter()
    assert window.has_place()
    window.enter()
    assert not window.has_place()
    window.leave()
    assert window.has_place()
    assert window.in_flight == 1


def test_a_share_leaves_the_rest_to_others() -> None:
    """At least one place, however small."""
    window = warm(10)
    for _ in range(4):
        window.enter()
    assert not window.has_place(0.4)
    assert window.has_place(0.5)
    assert window.has_place()
    assert warm(10).has_place(0.01)


def test_beyond_a_full_window_there_is_a_reserve() -> None:
    """One place for each eight, but never more than the ceiling."""
    window = warm(Bounds(16, 16, 16, 64))
    for _ in range(16):
        window.enter()
    assert not window.has_place()
    for _ in range(2):
        assert window.has_place(reserve=True)
        window.enter()
    assert not window.has_place(reserve=True)
    full = warm(1)
    full.enter()
    assert not full.has_place(reserve=True)


def test_one_goes_first_to_an_engine_of_which_nothing_is_known() -> None:
    """The crowd follows when it is done, well or badly, or soon after; what is known grows old."""
    clock = Clock()
    window = Window(4, clock)
    window.enter()
    assert not window.has_place()
    assert not window.has_place(reserve=True)
    window.leave(done=False)
    assert not window.has_place()
    window.enter()
    clock.now += FIRST_ROW_SEC
    assert window.has_place()

    other = Window(4, clock)
    other.enter()
    other.leave()
    other.enter()
    assert other.has_place()
    other.leave()
    clock.now += WARM_SEC + 1
    other.enter()
    assert not other.has_place()


def test_it_grows_when_the_engine_has_no_queue() -> None:
    """After a look that finds every place taken and nothing waiting; not when places were free."""
    window = warm(Bounds(2, 4, 50, 100))
    assert not window.look(running=0, waiting=0)
    window.enter()
    window.enter()
    assert window.look(running=2, waiting=0)
    assert window.size > 2
    assert window.has_place()


def test_a_look_without_figures_forgets_nothing() -> None:
    """Between two looks at the page, refusals are looked at: the most that were in flight counts for the page."""
    window = warm(Bounds(2, 4, 50, 100))
    window.look(running=0, waiting=0)
    window.enter()
    window.enter()
    assert not window.look()
    window.leave()
    assert window.look(running=2, waiting=0)


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
    assert not window.has_place()
    clock.now += 7
    assert window.has_place()


def test_only_rows_that_are_refused_together_count_together() -> None:
    """Bad luck now and then adds up to nothing."""
    clock = Clock()
    window = Window(8, clock)
    for row in range(20):
        window.note(overload=True, retry_after_sec=7, row=row)
        clock.now += COUNTED_SEC
        assert not window.look()


def test_a_wrong_bounds_object_is_no_window() -> None:
    """A number is a window of that size."""
    fixed: Any = Window(3)
    assert (fixed.size, fixed.is_finding) == (3, False)
