"""Which combinations are tried: for each DRUM every pair of the others' values, and the two ends in every mode. Pure."""

from dataclasses import dataclass

from allpairspy import AllPairs

SCORE = "drum score"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
DRUMS = ("1.17.18", "1.18.1")
OPENAIS = ("1.56.0", "2.54.0", "3.54.0")
"""The oldest that pyproject.toml allows, the last of 2.x, and the locked one."""
MODES = ("werkzeug 1", "werkzeug 3", "sync 1", "sync 2", "gevent 1", SCORE)
"""Names of `drum_process.SERVERS`, and the command."""
NIMS = ("1.3", "1.8", "2.0", "2.1", "3.0")
"""Names of `fake_nim.releases.RELEASES`."""


@dataclass(frozen=True, order=True)
class Combination:
    """What one cell is made of."""

    drum: str
    python: str
    openai: str
    mode: str
    nim: str

    @property
    def environment(self) -> str:
        """The name of the virtual environment that it runs in."""
        return f"python{self.python}-drum{self.drum}-openai{self.openai}"


def ends() -> list[Combination]:
    """The oldest and the newest of everything, in every mode: what CI runs."""
    return [Combination(DRUMS[end], PYTHONS[end], OPENAIS[end], mode, NIMS[end]) for end in (0, -1) for mode in MODES]


def matrix() -> dict[int, Combination]:
    """All cells by their numbers, which begin with 1."""
    chosen = ends()
    for drum in DRUMS:
        tested = [[c.python, c.openai, c.mode, c.nim] for c in chosen if c.drum == drum]
        pairs = AllPairs([PYTHONS, OPENAIS, MODES, NIMS], previously_tested=tested)
        chosen += [Combination(drum, *pair) for pair in pairs]
    return dict(enumerate(chosen, start=1))
