"""Makes the other folders' fixtures known here, and marks every test of this folder."""

import os
import secrets
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
for folder in ("edge", "unit"):
    sys.path.insert(0, str(HERE.parent / folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.adversary)


def pytest_configure(config: pytest.Config) -> None:
    """One seed for all processes of this run, new each time unless it was given: the workers inherit it."""
    os.environ.setdefault("NIMDRUM_FUZZ_SEED", str(secrets.randbelow(1 << 32)))


def pytest_report_header() -> str:
    return f"adversary: NIMDRUM_FUZZ_SEED={os.environ['NIMDRUM_FUZZ_SEED']} makes up the same answers and bodies again"
