"""The frame that goes back to DRUM: one row out for each row in, the answer first, the rest beside it. Pure."""

from collections.abc import Sequence

import pandas as pd

from nimdrum.errors import RowsFailedError, SettingsError
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.row import Result

EXTRA_COLUMNS = ("row_error", "finish_reason", "prompt_tokens", "completion_tokens")
EMPTY_PROMPT = RowFailure("empty_prompt", "the prompt is empty, so the engine was not asked", 400)
RESERVED = "Predictions"  # DRUM's own name for the answer; an extra column of that name stops `drum score`


def assemble(results: Sequence[Result], target: str, n: int, extra_columns: bool) -> pd.DataFrame:
    """The answers in a column named `target`, index 0..n-1.

    With `extra_columns` also row_error, finish_reason, prompt_tokens, completion_tokens and choice_2 .. choice_n;
    a failed row has an empty answer and its error. Without, a failed row raises RowsFailedError. An empty prompt
    is not a failure: DataRobot's own validation sends a file of them.

    Raises RowsFailedError too when the engine answered no row at all and was to blame.
    """
    check_target(target, n)
    failures = [(i, r) for i, r in enumerate(results) if isinstance(r, RowFailure) and r is not EMPTY_PROMPT]
    answered = any(isinstance(result, Completion) for result in results)
    engine_failures = [(i, failure) for i, failure in failures if failure.status >= 500]
    if engine_failures and not answered:
        raise _rows_failed(engine_failures, len(results))
    if failures and not extra_columns:
        raise _rows_failed(engine_failures or failures, len(results))
    columns: dict[str, list[object]] = {
        target: [result.texts[0] if isinstance(result, Completion) else "" for result in results]
    }
    if extra_columns:
        columns |= _extra(results, n)
    return pd.DataFrame(columns, dtype=object)


def check_target(target: str, n: int) -> None:
    """Raise SettingsError when the target column would collide with one of ours."""
    if target in (*EXTRA_COLUMNS, *_choice_names(n)):
        raise SettingsError(
            f"The target column is called {target!r} (TARGET_NAME), which is one of this project's extra columns. "
            "Give the target another name, or set extra_output_columns to false."
        )


def _extra(results: Sequence[Result], n: int) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {name: [] for name in (*EXTRA_COLUMNS, *_choice_names(n))}
    for result in results:
        if isinstance(result, Completion):
            blank = f"empty_answer: {result.blank_reason}" if result.blank_reason else ""
            values: list[object] = [
                blank,
                result.finish_reason or "",
                result.prompt_tokens,
                result.completion_tokens,
            ]
            more = list(result.texts[1:n])
        else:
            values, more = [str(result), "", None, None], []
        for column, value in zip(columns.values(), values + more + [""] * (n - 1 - len(more)), strict=True):
            column.append(value)
    return columns


def _choice_names(n: int) -> list[str]:
    return [f"choice_{i}" for i in range(2, n + 1)]


def _rows_failed(failures: Sequence[tuple[int, RowFailure]], rows: int) -> RowsFailedError:
    index, first = failures[0]
    return RowsFailedError(
        f"{len(failures)} of {rows} rows failed; the first is row {index + 1} with {first}. "
        "With extra_output_columns on, failed rows are reported in the column row_error beside the answers of the "
        "others.",
        first.status,
    )
