"""The tests' own ground: tests that must not run side by side share a group of pytest-xdist."""

from pathlib import Path

import pytest


@pytest.mark.xdist_group("alone")
def test_groups_are_kept_together(request: pytest.FixtureRequest) -> None:
    """pytest-xdist knows a group by the end of the test's name. With pytest 9.2.0 there was none, and nobody said so."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not run with --dist loadgroup")
    assert request.node.nodeid.endswith("@alone")


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by that name, and leaves the second one out with an error that is easily overlooked."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
