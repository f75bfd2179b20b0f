"""`nimdrum.base.releases`: what is too old ends the start, what is too new is told, and both as pyproject.toml says."""

from pathlib import Path

import pytest

from nimdrum.base.errors import ReleaseError
from nimdrum.base.releases import DRUM, OPENAI, RANGES, installed, release_of, untried

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def test_they_are_what_an_installer_reads() -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    for name, allowed in RANGES.items():
        assert f'\n  "{name}{allowed}",\n' in text, f"pyproject.toml does not say {name}{allowed}"


@pytest.mark.parametrize("versions", [{}, {DRUM: "1.17.18", OPENAI: "1.56.0"}, {DRUM: "1.18.1", OPENAI: "3.99.9"}])
def test_nothing_is_said_of_what_was_tried(versions: dict[str, str]) -> None:
    assert untried(versions) == []


def test_the_installed_ones_are_found() -> None:
    """Those of this test run, which the lock names."""
    assert set(installed()) == {DRUM, OPENAI}
    assert untried(installed()) == []


@pytest.mark.parametrize(
    ("name", "version"), [(OPENAI, "0.28.1"), (OPENAI, "1.55.3"), (DRUM, "1.16.26"), (DRUM, "1.17.17.post1")]
)
def test_too_old(name: str, version: str) -> None:
    """One sentence: what is there, and the command that mends it."""
    with pytest.raises(ReleaseError) as error:
        untried({name: version})
    assert str(error.value).startswith(f"{name} {version} is installed, which is too old")
    assert f"pip install '{name}{RANGES[name]}'" in str(error.value)


@pytest.mark.parametrize(("name", "version"), [(OPENAI, "4.0.0"), (DRUM, "1.19.0rc1"), (DRUM, "2.0")])
def test_too_new(name: str, version: str) -> None:
    """It may work, so the start goes on."""
    (sentence,) = untried({name: version})
    assert f"{name} {version}" in sentence and str(RANGES[name]) in sentence


@pytest.mark.parametrize(
    ("version", "release"), [("1.18.1", (1, 18, 1)), ("1.17.12.post1", (1, 17, 12)), ("2", (2,)), ("unknown", ())]
)
def test_release(version: str, release: tuple[int, ...]) -> None:
    assert release_of(version) == release
