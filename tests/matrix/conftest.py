"""Fixtures of the matrix, and the page that its green cells are written to."""

import datetime
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "edge"))

from edge_world import REPOSITORY, no_key_is_printed, world

from matrix.cells import matrix
from matrix.table import with_table

__all__ = ["no_key_is_printed", "world"]

PAGE = REPOSITORY / "docs" / "compatibility.md"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-page", action="store_true", help="write the green cells to docs/compatibility.md")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = terminalreporter.stats.get("passed", [])
    green = [value for report in reports for name, value in report.user_properties if name == "green cell"]
    if not green:
        return
    terminalreporter.write_line(f"green cells: {', '.join(map(str, sorted(set(green))))}")
    if config.getoption("--write-page"):
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        page = with_table(PAGE.read_text(encoding="utf-8"), matrix(), dict.fromkeys(green, today))
        PAGE.write_text(page, encoding="utf-8")
