"""What a check found, and how it is shown to a person and to a program. Pure."""

import dataclasses
import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

NAME_WIDTH = 13
INDENT = 2 + 9 + NAME_WIDTH


class Level(str, Enum):
    """A problem stops the start; a warning may, or costs something else."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@dataclass(frozen=True)
class Finding:
    """One line of the report. `remedy` says what to do; empty where nothing is to be done or the message says it."""

    level: Level
    message: str
    remedy: str = ""
    name: str = ""


def ok(message: str) -> Finding:
    return Finding(Level.OK, message)


def warning(message: str, remedy: str = "") -> Finding:
    return Finding(Level.WARNING, message, remedy)


def problem(message: str, remedy: str = "") -> Finding:
    return Finding(Level.PROBLEM, message, remedy)


def count(findings: Sequence[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in findings)


def as_text(title: str, findings: Sequence[Finding], width: int, style: Callable[[str, str], str]) -> str:
    """The report for a terminal of `width` columns; `style` paints a word in a colour."""
    lines = [title, ""]
    for finding in findings:
        mark = style(f"{finding.level.value:<9}", COLOURS[finding.level])
        # Wrapped first: colours take no columns.
        lines.append(f"  {mark}{finding.name:<{NAME_WIDTH}}{_wrapped(finding.message, width)}")
        if finding.remedy:
            lines.append(" " * INDENT + _wrapped(f"-> {finding.remedy}", width))
    problems, warnings = count(findings, Level.PROBLEM), count(findings, Level.WARNING)
    total = [_plural(problems, "problem"), _plural(warnings, "warning"), f"{count(findings, Level.OK)} ok"]
    return "\n".join([*lines, "", ", ".join(part for part in total if part)])


def as_json(title: str, findings: Sequence[Finding]) -> str:
    """The report for a program."""
    document = {
        "title": title,
        "ok": count(findings, Level.PROBLEM) == 0,
        "problems": count(findings, Level.PROBLEM),
        "warnings": count(findings, Level.WARNING),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    return json.dumps(document, indent=1)


def _wrapped(text: str, width: int) -> str:
    lines = textwrap.wrap(text, max(width - INDENT, 30), break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * INDENT}".join(lines)


def _plural(number: int, word: str) -> str:
    return "" if number == 0 else f"{number} {word}{'s' if number > 1 else ''}"
