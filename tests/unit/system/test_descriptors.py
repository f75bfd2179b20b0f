"""`nimdrum.system.descriptors`: how many connections fit below RLIMIT_NOFILE."""

import pytest

from nimdrum.system.descriptors import connections_left, left


@pytest.mark.parametrize(("limit", "opened", "fit"), [(64, 30, 17), (1024, 40, 730), (65_536, 40, 49_114), (20, 19, 1)])
def test_some_are_always_kept(limit: int, opened: int, fit: int) -> None:
    """For files, locks and callers; one row goes on with whatever there is."""
    assert left(limit, opened) == fit


def test_this_process_may_open_some() -> None:
    """The real limit and the real count give a number that fits below it."""
    assert connections_left() >= 1
