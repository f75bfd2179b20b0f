"""Scoring data as it was written: `007`, `NA`, `null`, `1e5`, commas and blank lines stay what they are.

DRUM's own reader guesses types and drops or cuts rows; this one keeps every cell as text and every row. Pure.
"""

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from nimdrum.base.errors import BadInputError

UNPROCESSABLE = 422
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MATRIX_MARKET = "%%MatrixMarket"
FREE_CELLS = 400_000
CELLS_A_CHARACTER = 4
"""A row may leave columns out. Where so many cells are missing, a body of a few kilobytes would take hundreds of MB."""
SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 60  # of a column name: without a header line it may be a whole prompt


def read_rows(body: bytes) -> pd.DataFrame:
    """The rows in `body` as a frame of `object` columns that hold `str`, index 0..n-1.

    CSV with a header line (UTF-8, with or without BOM), a JSON array of records, or one JSON record. In a file
    with one column a blank line is a row and unquoted commas are text; with more columns blank lines are skipped.
    Raises BadInputError.
    """
    text = _decode(body)
    start = text.lstrip()
    if not start:
        raise BadInputError(
            "The scoring data is empty. Send a CSV with a header line, or a JSON array of records.",
            UNPROCESSABLE,
        )
    if start.startswith(MATRIX_MARKET):
        raise BadInputError("Sparse (mtx) data cannot hold prompts. Send CSV or JSON.", UNPROCESSABLE)
    if _looks_like_json(start):
        return _read_json(text)
    return _read_csv(text)


def _decode(body: bytes) -> str:
    if body.startswith(UTF_16):
        raise BadInputError("The scoring data is UTF-16. Save it as UTF-8 (in Excel: CSV UTF-8).", UNPROCESSABLE)
    try:
        return body.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        body = body.removeprefix(codecs.BOM_UTF8)
        raise not_utf8(body[error.start], body.count(b"\n", 0, error.start) + 1) from None


def not_utf8(byte: int, line: int) -> BadInputError:
    return BadInputError(
        f"The scoring data is not UTF-8: byte 0x{byte:02x} in line {line}. Save it as UTF-8.", UNPROCESSABLE
    )


def is_plain_csv(start: bytes) -> bool:
    """Whether a file that begins with these bytes is read as CSV; False also where only more of it would tell."""
    text = start.removeprefix(codecs.BOM_UTF8).decode("utf-8", "ignore").lstrip()
    other = start.startswith(UTF_16) or text.startswith(MATRIX_MARKET)
    return bool(text) and not other and not _looks_like_json(text)


def _looks_like_json(start: str) -> bool:
    following = start[1:1000].lstrip()
    return (start[0] == "[" and following[:1] in ("{", "]")) or (start[0] == "{" and following[:1] in ('"', "}"))


def _read_csv(text: str) -> pd.DataFrame:
    found = csv_rows(io.StringIO(text, newline=""))
    header = next(found)
    rows: list[list[str]] = []
    most = _most_rows(len(header), len(text))
    for cells in found:
        rows.append(cells)
        if len(rows) > most:
            raise _too_many_empty(len(header), len(rows))
    return _frame(rows, header)


def csv_rows(source: Iterable[str]) -> Iterator[list[str]]:
    """The header, its names made unique, then each row, as long as the header. `source` gives lines with their ends,
    and is asked for the next one when it is needed. Raises BadInputError."""
    csv.field_size_limit(sys.maxsize)
    # Python 3.10's csv refuses NUL and later ones keep it; nothing that generates text wants one.
    lines = csv.reader((line.replace("\0", "\ufffd") for line in source), strict=True)
    try:
        header = next((cells for cells in lines if cells), [])
        width = len(header)
        yield _unique(header)
        for cells in lines:
            if len(cells) == width:
                yield cells
            elif cells or width == 1:
                yield _fit(cells, width, lines.line_num)
    except csv.Error as error:
        raise BadInputError(
            f"The CSV cannot be read: {error}, noticed in line {lines.line_num}. A cell that begins with a double "
            'quote must end with one, and a quote inside a quoted cell is written twice ("").'
        ) from None


def _fit(cells: list[str], width: int, line: int) -> list[str]:
    """A row of `width` cells. Missing ones are empty; in a one-column file the extra commas belong to the text."""
    if width == 1:
        return [",".join(cells)]
    if len(cells) > width:
        raise BadInputError(
            f"Line {line} of the CSV has {len(cells)} cells, but the header has {width}. "
            "Put double quotes around a cell that contains commas."
        )
    return cells + [""] * (width - len(cells))


def _unique(header: list[str]) -> list[str]:
    """The column names, a repeated one with .1, .2, ... as pandas does it."""
    taken, names = set(header), dict[str, None]()
    counts: dict[str, int] = {}
    for name in header:
        candidate, count = name, counts.get(name, 0)
        while candidate in names or (count and candidate in taken):
            count += 1
            candidate = f"{name}.{count}"
        counts[name] = count
        names[candidate] = None
    return list(names)


def _most_rows(columns: int, characters: int) -> int:
    """With more rows far more cells are missing than were sent, and each of them takes memory."""
    return (FREE_CELLS + CELLS_A_CHARACTER * characters) // max(1, columns)


def _too_many_empty(columns: int, rows: int) -> BadInputError:
    return BadInputError(
        f"The scoring data has {columns} columns, and most rows leave most of them out ({rows} rows so far): too "
        "many empty cells for data of this size. Send the columns that are needed, or the rows in several parts.",
        UNPROCESSABLE,
    )


def _read_json(text: str) -> pd.DataFrame:
    try:
        read = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
        return _frame_of(read, len(text))
    except BadInputError:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"The scoring data looks like JSON, but cannot be read: {error}.") from None


def _frame_of(records: Any, characters: int) -> pd.DataFrame:
    if isinstance(records, dict):
        records = [records]
    columns: dict[str, None] = {}
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise BadInputError(f'Entry {number} of the JSON array is no object. Send [{{"column": "value"}}, ...].')
        columns.update(dict.fromkeys(record))
    if len(records) > _most_rows(len(columns), characters):
        raise _too_many_empty(len(columns), len(records))
    return _frame([[_cell(record.get(name)) for name in columns] for record in records], list(columns))


class _Number(str):
    """A JSON number as it was written: as a cell it stays so."""

    __slots__ = ()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(_with_numbers(value), ensure_ascii=False)


def _with_numbers(value: Any) -> Any:
    """A nested value with its numbers as numbers again."""
    if isinstance(value, _Number):
        return json.loads(value)
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_numbers(item) for name, item in value.items()}
    return value


def _frame(rows: list[list[str]], columns: list[str]) -> pd.DataFrame:
    # Of lists pandas makes a frame column by column, which is slow for many.
    cells = np.fromiter(chain.from_iterable(rows), dtype=object, count=len(rows) * len(columns))
    return pd.DataFrame(cells.reshape(len(rows), len(columns)), columns=columns, dtype=object)


def prompts_of(frame: pd.DataFrame, column: str) -> list[str]:
    """The prompt of each row, see `texts_of`. Raises BadInputError when there is no such column."""
    if column not in frame.columns:
        raise BadInputError(
            f"The prompt column {column!r} is missing. Columns found: {shown_columns(frame.columns)}. "
            "Rename the column, or set the runtime parameter prompt_column_name."
        )
    return texts_of(frame, column)


def shown_columns(names: Iterable[object]) -> str:
    """Column names for a person: not too many, and none too long."""
    found = [_shown(str(name)[:SHOWN_CHARACTERS]) for name in names]
    return ", ".join(found[:SHOWN_COLUMNS]) + (", ..." if len(found) > SHOWN_COLUMNS else "") or "none"


def _shown(name: str) -> str:
    """A column name as a person can tell it apart: in quotes where blanks or invisible characters belong to it."""
    return name if name.strip() == name and name.isprintable() else repr(name)


def texts_of(frame: pd.DataFrame, column: str) -> list[str]:
    """The cells of a column as text, by position; None and NaN, which other readers give, are empty."""
    return [_text(value) for value in frame[column].tolist()]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)
