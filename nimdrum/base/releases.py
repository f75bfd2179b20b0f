"""The releases of DRUM and openai that this package works with (docs/compatibility.md), and those that are installed.

An installer keeps to what pyproject.toml says; packages that were installed later, or a copied code folder, may not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from nimdrum.base.errors import ReleaseError

Release = tuple[int, ...]
DRUM, OPENAI = "datarobot-drum", "openai"


@dataclass(frozen=True)
class Range:
    """From `first` on, and before `end`."""

    first: Release
    end: Release

    def __str__(self) -> str:
        return f">={'.'.join(map(str, self.first))},<{'.'.join(map(str, self.end))}"


RANGES: Mapping[str, Range] = {DRUM: Range((1, 17, 18), (1, 19)), OPENAI: Range((1, 56), (4,))}
"""What pyproject.toml says, where all of it was tried."""


def release_of(version: str) -> Release:
    """The leading numbers of a version. Pure."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def installed() -> dict[str, str]:
    """The versions of the packages of `RANGES` that are there."""
    found = {}
    for name in RANGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def untried(versions: Mapping[str, str]) -> list[str]:
    """A sentence for each that is newer than what was tried. Raises ReleaseError for one that is too old. Pure."""
    sentences = []
    for name, version in versions.items():
        allowed, release = RANGES[name], release_of(version)
        if release and release < allowed.first:
            raise ReleaseError(
                f"{name} {version} is installed, which is too old for nimdrum: "
                f"install another, pip install '{name}{allowed}'."
            )
        if release >= allowed.end:
            sentences.append(f"{name} {version} is installed; nimdrum was tried with {name}{allowed}.")
    return sentences
