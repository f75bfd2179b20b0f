"""Columns with which a row sets things for itself. Pure.

They are optional, and an empty cell means what the settings say. A cell that cannot be used is an error of its row.
"""

import json
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from nimdrum.scoring.answer import RowFailure
from nimdrum.scoring.reader import texts_of
from nimdrum.scoring.request import NOTHING_OWN, Message, Own

MESSAGES = "messages"
COLUMNS = ("system_prompt", "max_tokens", "temperature", MESSAGES)
MOST_TOKENS = 10_000_000
HOTTEST = 2.0

Columns = Mapping[str, Sequence[str]]


def own_columns(frame: pd.DataFrame, prompt_column: str) -> dict[str, list[str]]:
    """The cells of the columns that are there, as text."""
    return {name: texts_of(frame, name) for name in COLUMNS if name in frame.columns and name != prompt_column}


def own_of(columns: Columns, index: int) -> Own | RowFailure:
    """What row `index` sets for itself, or why it cannot be asked."""
    cells = {name: column[index].strip() for name, column in columns.items()}
    if not any(cells.values()):
        return NOTHING_OWN
    try:
        return Own(
            system_prompt=columns["system_prompt"][index] if cells.get("system_prompt") else None,
            max_tokens=_tokens(cells.get("max_tokens", "")),
            temperature=_temperature(cells.get("temperature", "")),
            messages=_messages(cells.get(MESSAGES, "")),
        )
    except ValueError as error:
        return RowFailure("bad_row", f"{error} (if the column means something else: per_row_columns)", 400)


def _tokens(cell: str) -> int | None:
    if not cell:
        return None
    number = _number(cell)
    if number is None or not number.is_integer() or not 1 <= number <= MOST_TOKENS:
        raise ValueError(f"max_tokens is {cell[:40]!r}; allowed is a whole number from 1 to {MOST_TOKENS}")
    return int(number)


def _temperature(cell: str) -> float | None:
    if not cell:
        return None
    number = _number(cell)
    if number is None or not 0 <= number <= HOTTEST:
        raise ValueError(f"temperature is {cell[:40]!r}; allowed is a number from 0 to {HOTTEST:g}")
    return number


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _messages(cell: str) -> tuple[Message, ...] | None:
    if not cell:
        return None
    try:
        messages = json.loads(cell)
    except (ValueError, RecursionError):
        raise ValueError(f"messages is no JSON: {cell[:40]!r}") from None
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"messages is not a JSON list with at least one message: {cell[:40]!r}")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ValueError(f"entry {number} of messages is no object with a role and a content")
    return tuple(messages)
