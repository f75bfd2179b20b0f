"""The frame that goes back to DRUM: one row out for each row in, the answer first, the rest beside it. Pure."""

import re
from collections.abc import Collection, Sequence

import pandas as pd

from nimdrum.base.errors import RowsFailedError, SettingsError
from nimdrum.base.settings import Settings
from nimdrum.engines.wire import SHOWN_CHARACTERS
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.part import WHOLE, Part
from nimdrum.scoring.row import Result

EXTRA_COLUMNS = ("row_error", "finish_reason", "prompt_tokens", "completion_tokens", "latency_sec", "attempts")
NUMBERS: dict[str, type] = {"prompt_tokens": int, "completion_tokens": int, "latency_sec": float, "attempts": int}
"""Of these columns; all others hold text."""
REASONING, TOOL_CALLS, LOGPROBS = "reasoning", "tool_calls", "logprobs"
WHERE_ASKED = (REASONING, TOOL_CALLS, LOGPROBS)
LONE_RETURN = re.compile(r"\r(?!\n)")
EMPTY_PROMPT = RowFailure("empty_prompt", "the prompt is empty, so the engine was not asked", 400)
NO_FAILURES = (EMPTY_PROMPT.kind, "skipped")
"""Kinds of row error with which a batch is still what was asked for."""


def columns_asked(settings: Settings) -> frozenset[str]:
    """Which of WHERE_ASKED the settings ask for, whatever the rows hold: each call has the same columns."""
    by_row = settings.per_row_columns
    asked = {
        REASONING: settings.split_reasoning,
        TOOL_CALLS: by_row or "tools" in settings.fields,
        LOGPROBS: by_row or "logprobs" in settings.fields,
    }
    return frozenset(name for name, wanted in asked.items() if wanted)


def assemble(
    results: Sequence[Result],
    target: str,
    n: int,
    extra_columns: bool,
    asked: Collection[str] = (),
    part: Part = WHOLE,
) -> pd.DataFrame:
    """The answers in a column named `target`, index 0..n-1.

    With `extra_columns` also EXTRA_COLUMNS, those of WHERE_ASKED that are `asked` for, and choice_2 .. choice_n; a
    failed row has an empty answer and its error. Without, a failed row raises RowsFailedError. An empty prompt is not
    a failure: DataRobot's own validation sends a file of them. Nor is a row that a budget had no room for.

    Raises RowsFailedError too when the engine answered no row at all and was to blame, unless there are other parts.
    """
    failures = [
        (i, r) for i, r in enumerate(results, part.first) if isinstance(r, RowFailure) and r.kind not in NO_FAILURES
    ]
    answered = len(failures) < len(results) and any(isinstance(result, Completion) for result in results)
    engine_failures = [(i, failure) for i, failure in failures if failure.status >= 500]
    if engine_failures and not answered and part.alone:
        raise _rows_failed(engine_failures, len(results), extra_columns)
    if failures and not extra_columns:
        raise _rows_failed(engine_failures or failures, len(results), extra_columns)
    columns: dict[str, list[object]] = {target: _texts(results, 0)}
    if extra_columns:
        check_target(target, n)
        columns |= _extra(results, n, asked)
    return pd.DataFrame({name: list(map(_one_record, cells)) for name, cells in columns.items()}, dtype=object)


def _one_record(cell: object) -> object:
    """`cell` so that it stays in its record: DRUM writes CSV without quotes around a lone carriage return, which every
    reader takes for the end of a line, and Python 3.10 reads no NUL. Nothing else is changed, also no `=` or `@` at the
    beginning: an answer is data, and a spreadsheet's formulas are for whoever opens it there to prevent."""
    if isinstance(cell, str) and ("\r" in cell or "\0" in cell):
        return LONE_RETURN.sub("\n", cell).replace("\0", "\ufffd")
    return cell


def check_target(target: str, n: int) -> None:
    """Raise SettingsError when the target column would collide with one of the extra columns."""
    if target in (*EXTRA_COLUMNS, *WHERE_ASKED, *_choice_names(n)):
        raise SettingsError(
            f"The target column is called {target!r} (TARGET_NAME), which is one of this project's extra columns. "
            "Give the target another name, or set extra_output_columns to false."
        )


def _extra(results: Sequence[Result], n: int, asked: Collection[str]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        "row_error": [_row_error(result, TOOL_CALLS in asked) for result in results],
        "finish_reason": [(r.finish_reason or "") if isinstance(r, Completion) else "" for r in results],
        "prompt_tokens": [r.prompt_tokens if isinstance(r, Completion) else None for r in results],
        "completion_tokens": [r.completion_tokens if isinstance(r, Completion) else None for r in results],
        "latency_sec": [result.latency_sec for result in results],
        "attempts": [result.attempts for result in results],
    }
    for name in WHERE_ASKED:
        if name in asked:
            cells: list[object] = [
                getattr(result, name) if isinstance(result, Completion) else "" for result in results
            ]
            columns[name] = cells
    return columns | {name: _texts(results, number) for number, name in enumerate(_choice_names(n), 1)}


def _texts(results: Sequence[Result], number: int) -> list[object]:
    """Choice `number` of each row, counted from 0; empty where there is none."""
    return [
        result.texts[number] if isinstance(result, Completion) and number < len(result.texts) else ""
        for result in results
    ]


def _row_error(result: Result, shows_calls: bool) -> str:
    if isinstance(result, RowFailure):
        return str(result)
    if result.refusal:
        return f"declined: {result.refusal}"
    if result.tool_calls and not shows_calls and not result.texts[0].strip():
        return f"empty_answer: the engine called a tool that nobody offered: {result.tool_calls[:SHOWN_CHARACTERS]}"
    return f"empty_answer: {result.blank_reason}" if result.blank_reason else result.incomplete


def _choice_names(n: int) -> list[str]:
    return [f"choice_{i}" for i in range(2, n + 1)]


def _rows_failed(failures: Sequence[tuple[int, RowFailure]], rows: int, extra_columns: bool) -> RowsFailedError:
    index, first = failures[0]
    advice = (
        ""
        if extra_columns
        else " With extra_output_columns on, failed rows are reported in the column row_error beside the answers of "
        "the others."
    )
    return RowsFailedError(
        f"{len(failures)} of {rows} rows failed; the first is row {index + 1} with {first}.{advice}", first.status
    )
