"""docs/command.md has the options and exit codes that there are, no more and no less."""

import re
from pathlib import Path

import click
import pytest

from nimdrum.tools.cli import main
from nimdrum.tools.run_options import MISTAKE
from nimdrum.tools.score import summary

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE, SCALE = ((DOCS / name).read_text(encoding="utf-8") for name in ("command.md", "scale.md"))


def section(command: str) -> str:
    page = SCALE if command == "ray-score" else PAGE
    return page.partition(f"\n## nimdrum {command}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", ["score", "serve", "ask", "ray-score"])
def test_the_options_are_those_of_the_command(command: str) -> None:
    """Each is in the table of its section, and each there is one."""
    rows = re.findall(r"^\| (`-.*?`) \|", section(command), re.MULTILINE)
    told = {option for row in rows for option in re.findall(r"`(-[^`]+)`", row)}
    options = {
        name
        for parameter in main.commands[command].params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    assert told == options


def test_the_exit_codes_of_score() -> None:
    """Those of the code, each with its row."""
    codes = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", section("score"), re.MULTILINE) for code in row.split(",")
    }
    assert codes == {
        summary.ALL_ANSWERED, summary.FAILED, MISTAKE, summary.SOME_FAILED, summary.INTERRUPTED, 128 + 15,
    }  # fmt: skip


def test_what_the_summary_holds() -> None:
    """Every field of the object that a program reads."""
    told = summary.as_object(summary.Totals().summary(0.0, 0.0, ""))
    row = next(line for line in section("score").splitlines() if line.startswith("| `--json`"))
    assert set(re.findall(r"`(\w+)`", row)) == {*told, "error"}
