"""Makes the other folders' fixtures known here, and marks every test of this folder."""

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
