"""The README's path from zero to a deployed model: short, and made of commands that exist."""

import re
import shlex
from pathlib import Path

import pytest

from nimdrum.tools.cli import main

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
STEPS = re.search(r"^## From zero to a deployed model.*?(?=^The first start|^## )", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (\S.*)$", STEPS[0] if STEPS else "", re.MULTILINE)
OURS = [command for command in re.findall(r"^    (\S.*)$", README, re.MULTILINE) if "-m nimdrum" in command]


def test_a_reader_finishes_it() -> None:
    """What does not fit into so many lines has a page in docs/."""
    assert README.count("\n") <= 150


def test_ten_commands_at_most() -> None:
    """From an empty machine to an answer."""
    assert 5 <= len(COMMANDS) <= 10


@pytest.mark.parametrize("command", OURS)
def test_its_options_exist(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `python -m nimdrum` line of the README can be read by the command that it names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    words = shlex.split(command, comments=True)
    name, *arguments = words[words.index("nimdrum") + 1 :]
    for word in arguments:
        if "/" in word or word.endswith((".csv", ".md")):  # files that earlier commands have made
            (tmp_path / word).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / word).touch()
    command_of = main.commands[name]
    context = command_of.make_context(name, [*arguments])
    assert context.params
