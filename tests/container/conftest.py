"""Makes the fixtures of `images` known to all tests in this folder, and prints what was measured."""

from pathlib import Path

import pytest
from images import context, image, images, sandbox

__all__ = ["context", "image", "images", "measured", "sandbox"]

_measured: list[str] = []


@pytest.fixture(scope="session")
def measured() -> list[str]:
    """Lines to print at the end of the session."""
    return _measured


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder's tests share the images, so one process runs them; building takes minutes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for mark in (pytest.mark.container, pytest.mark.xdist_group("container"), pytest.mark.timeout(1800)):
                item.add_marker(mark)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _measured:
        terminalreporter.section("measured")
        for line in _measured:
            terminalreporter.write_line(line)
