"""Fixtures of the chaos suite, and the table that it prints at the end."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "edge"))

from edge_world import no_key_is_printed, world

__all__ = ["case", "no_key_is_printed", "world"]

PROPERTY = "chaos"


class Case:
    """What one case expects and what it saw, for the table."""

    def __init__(self, name: str, record_property: Callable[[str, object], None]) -> None:
        self._name = name
        self._record = record_property
        self._began = time.monotonic()

    def check(self, expected: str, seen: str) -> None:
        self._record(PROPERTY, [self._name, expected, seen, f"{time.monotonic() - self._began:.1f}"])
        assert seen == expected


@pytest.fixture
def case(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Case:
    return Case(request.node.callspec.id, record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for group in ("passed", "failed") for r in terminalreporter.stats.get(group, [])]
    rows = {tuple(map(str, value)) for r in reports for name, value in r.user_properties if name == PROPERTY}
    if not rows:
        return
    terminalreporter.section("chaos: case, expected, seen, seconds")
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in sorted(rows):
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    terminalreporter.write_line(f"{len(rows)} cases, slowest {max(float(row[3]) for row in rows):.1f} s")
