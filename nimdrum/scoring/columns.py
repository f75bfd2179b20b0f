"""Columns with which a row sets things for itself. Pure.

They are optional, and an empty cell means what the settings say. A cell that cannot be used is an error of its row.
"""

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from nimdrum.base.fields import FIELDS
from nimdrum.engines.plan import DEFAULT_MODEL_NAME
from nimdrum.scoring.answer import RowFailure
from nimdrum.scoring.reader import texts_of
from nimdrum.scoring.request import NOTHING_OWN, Message, Own

MESSAGES = "messages"
COLUMNS = ("system_prompt", "model", MESSAGES, *FIELDS)

Columns = Mapping[str, Sequence[str]]


def own_columns(frame: pd.DataFrame, prompt_column: str) -> dict[str, list[str]]:
    """The cells of the columns that are there, as text."""
    return {name: texts_of(frame, name) for name in COLUMNS if name in frame.columns and name != prompt_column}


def own_of(columns: Columns, index: int) -> Own | RowFailure:
    """What row `index` sets for itself, or why it cannot be asked."""
    cells = {name: cell for name, column in columns.items() if (cell := column[index]).strip()}
    if not cells:
        return NOTHING_OWN
    try:
        return Own(
            system_prompt=cells.get("system_prompt"),
            model=model_of(columns, index),
            messages=_messages(cells[MESSAGES]) if MESSAGES in cells else None,
            fields={name: _read(name, cells[name]) for name in cells if name in FIELDS},
        )
    except ValueError as error:
        return RowFailure("bad_row", f"{error} (if the column means something else: per_row_columns)", 400)


def model_of(columns: Columns, index: int) -> str | None:
    """The model that row `index` names; None is the one that is served."""
    name = columns["model"][index].strip() if "model" in columns else ""
    return None if name in ("", DEFAULT_MODEL_NAME) else name


def _read(name: str, cell: str) -> object:
    try:
        return FIELDS[name](cell)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _messages(cell: str) -> tuple[Message, ...]:
    try:
        messages = json.loads(cell)
    except (ValueError, RecursionError):
        raise ValueError(f"messages is no JSON: {cell[:40]!r}") from None
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"messages is not a JSON list with at least one message: {cell[:40]!r}")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f"entry {number} of messages is no object with a role and a content")
        if "content" not in message and "tool_calls" not in message:
            raise ValueError(f"entry {number} of messages is no object with a role and a content")
    return tuple(messages)
