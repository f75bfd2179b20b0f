"""Fixtures of the chaos suite, and the table that it prints at the end."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "edge"))

from edge_world import no_key_is_printed, world

__all__ = ["case", "no_key_is_printed", "world"]

PROPERTY = "chaos"


class Case:
    """What one case expects and what it saw, for the table."""

    def __init__(self) -> None:
        self.expected = ""
        self.seen = "nothing"

    def check(self, expected: str, seen: str) -> None:
        self.expected, self.seen = expected, seen
        assert seen == expected


@pytest.fixture
def case(record_property: Any, request: pytest.FixtureRequest) -> Iterator[Case]:
    began = time.monotonic()
    case = Case()
    yield case
    record_property(PROPERTY, [request.node.callspec.id, case.expected, case.seen, round(time.monotonic() - began, 1)])


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
