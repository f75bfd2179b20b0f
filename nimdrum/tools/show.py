"""Answers beside their prompts, for a person at a terminal. Pure."""

import textwrap
import unicodedata

import pandas as pd

from nimdrum.base.errors import BadInputError
from nimdrum.scoring.answer import Completion
from nimdrum.scoring.entries import HEADER, read_line
from nimdrum.scoring.reader import prompts_of, read_rows

ANSWER_COLUMN = "Predictions"  # DRUM's name for the target in its CSV
MOST_LINES = 6
MISSING = "not in the journal"
CUT = "[cut at max_tokens]"


def render(prompts: bytes, answers: bytes, column: str, width: int, full: bool = False) -> str:
    """A table of prompts and answers (the CSV that `drum score` wrote, or a journal), `width` characters wide; long
    cells are cut unless it is to be `full`. What max_tokens cut is marked, and what a journal does not hold.

    Raises BadInputError when a column is missing or the files have different numbers of rows.
    """
    asked = prompts_of(read_rows(prompts), column)
    frame = _journal_frame(answers, len(asked)) if answers.startswith(HEADER) else read_rows(answers)
    answered = prompts_of(frame, ANSWER_COLUMN)
    if len(asked) != len(answered):
        raise BadInputError(f"There are {len(asked)} prompts but {len(answered)} answers: not the files of one run.")
    errors = prompts_of(frame, "row_error") if "row_error" in frame.columns else [""] * len(answered)
    reasons = prompts_of(frame, "finish_reason") if "finish_reason" in frame.columns else [""] * len(answered)
    number_width = len(str(len(asked)))
    left = (width - number_width - 6) * 2 // 5
    right = width - number_width - 6 - left
    lines = [_line("#", "prompt", "answer", number_width, left), f"{'-' * width}"]
    for number, (prompt, answer, error, reason) in enumerate(zip(asked, answered, errors, reasons, strict=True), 1):
        first, second = _wrap(prompt, left, full), _wrap(answer, right, full) if answer else []
        second += _wrap(f"[{error}]", right, True) if error else []
        second += [CUT] if reason == "length" else []
        height = max(len(first), len(second))
        first += [""] * (height - len(first))
        second += [""] * (height - len(second))
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            lines.append(_line(str(number) if i == 0 else "", a, b, number_width, left))
        lines.append("")
    failed = sum(1 for error in errors if error)
    lines.append(f"{len(asked)} rows, {len(asked) - failed} answered, {failed} with a row error")
    return "\n".join(line.rstrip() for line in lines)


def _journal_frame(journal: bytes, rows: int) -> pd.DataFrame:
    """What `drum score` would write, had it ended. A row's last entry counts: it was asked again."""
    cells = [("", MISSING, "")] * rows
    for entry in filter(None, map(read_line, journal.split(b"\n"))):
        if 1 <= entry.row <= rows:
            result = entry.result
            if isinstance(result, Completion):
                cells[entry.row - 1] = (result.texts[0], result.incomplete, result.finish_reason or "")
            else:
                cells[entry.row - 1] = ("", str(result), "")
    return pd.DataFrame(cells, columns=[ANSWER_COLUMN, "row_error", "finish_reason"], dtype=object)


def _line(number: str, prompt: str, answer: str, number_width: int, left: int) -> str:
    return f"{number:>{number_width}} | {prompt}{' ' * (left - _columns(prompt))} | {answer}"


def _wrap(text: str, width: int, full: bool) -> list[str]:
    lines = [part for line in text.splitlines() for part in _fold(line, width)] or [""]
    return lines if full or len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "..."]


def _fold(line: str, width: int) -> list[str]:
    """`line` in pieces of at most `width` terminal columns; wide characters (Japanese, emoji) take two."""
    pieces = textwrap.wrap(line, width) or [""]
    folded = []
    for piece in pieces:
        current = ""
        for character in piece:
            if _columns(current + character) > width:
                folded.append(current)
                current = ""
            current += character
        folded.append(current)
    return folded


def _columns(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
