"""docs/compatibility.md: its table has the cells that the choice of pairs gives, with the releases that we say we take."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from fake_nim.releases import RELEASES
from matrix.cells import DRUMS, MODES, NIMS, OPENAIS, PYTHONS, Combination, matrix
from matrix.table import NEVER, dates, with_table

from nimdrum.base.releases import DRUM, OPENAI, RANGES, release_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
AXES = {"python": PYTHONS, "openai": OPENAIS, "mode": MODES, "nim": NIMS}


def test_the_table_has_the_cells() -> None:
    """All, in their order, and no other: `make matrix` writes it."""
    assert with_table(PAGE, matrix(), {}) == PAGE
    assert len(matrix()) >= 60


@pytest.mark.parametrize("pair", list(combinations(AXES, 2)), ids=" x ".join)
@pytest.mark.parametrize("drum", DRUMS)
def test_every_pair_is_in_a_cell(drum: str, pair: tuple[str, str]) -> None:
    """For each DRUM."""
    seen = {tuple(getattr(cell, name) for name in pair) for cell in matrix().values() if cell.drum == drum}
    assert seen == {(one, other) for one in AXES[pair[0]] for other in AXES[pair[1]]}


def test_the_ends_are_what_we_take() -> None:
    """The oldest is the first that pyproject.toml allows, the newest the locked one: who raises either tries it."""
    for name, tried in ((DRUM, DRUMS), (OPENAI, OPENAIS)):
        assert release_of(tried[0])[: len(RANGES[name].first)] == RANGES[name].first
        assert f"\n{name}=={tried[-1]} " in LOCK, f"tests/matrix/cells.py: {name} is another in the lock"
    required = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert required is not None
    assert required[1] == f">={PYTHONS[0]},<3.{int(PYTHONS[-1].partition('.')[2]) + 1}"
    assert set(NIMS) <= set(RELEASES)


def test_a_date_is_that_of_its_cell() -> None:
    """It stays while the cell does, and is gone with another release in it."""
    page = "# x\n<!-- cells: made by `make matrix` -->\n<!-- end of cells -->\nrest\n"
    one, two = Combination("1", "3.10", "1", "sync 1", "1.3"), Combination("2", "3.10", "1", "sync 1", "1.3")
    first = with_table(page, {1: one, 2: two}, {1: "2026-01-01"})
    assert dates(first) == {(1, one): "2026-01-01", (2, two): NEVER}
    second = with_table(first, {1: one, 2: two}, {2: "2026-01-02"})
    assert dates(second) == {(1, one): "2026-01-01", (2, two): "2026-01-02"}
    assert dates(with_table(second, {1: two, 2: two}, {})) == {(1, two): NEVER, (2, two): "2026-01-02"}
    assert second.startswith("# x\n") and second.endswith("\nrest\n")
