"""The answers as a file: CSV as DRUM writes it, JSON, JSON Lines or Parquet, told by its ending."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from nimdrum.base.errors import SettingsError
from nimdrum.base.files import replacing
from nimdrum.scoring.rows_file import JSON_LINES, PARQUET, parquet_package

CSV = (".csv", "")
JSON = (".json",)


def name_answers(rows: Path) -> Path:
    """Where the answers go when nobody says it: into this folder, in the form of the rows."""
    ending = rows.suffix.lower()
    return Path(f"{rows.stem}-answers{ending if ending in (*JSON, *JSON_LINES, *PARQUET) else '.csv'}")


def check_ending(path: Path) -> None:
    """Raises SettingsError for an ending that says nothing, and BadInputError for Parquet without its package."""
    ending = path.suffix.lower()
    if ending in PARQUET:
        parquet_package()
    elif ending not in (*CSV, *JSON, *JSON_LINES):
        raise SettingsError(
            f"{path}: the ending tells how answers are written: name a .csv, .json, .jsonl or .parquet."
        )


def print_answers(frame: pd.DataFrame, ending: str) -> None:
    """To standard output; what is no text there goes as JSON Lines."""
    if ending in CSV:
        frame.to_csv(sys.stdout, index=False)
    else:
        sys.stdout.write(_json_lines(frame))
    sys.stdout.flush()


def write_answers(frame: pd.DataFrame, path: Path) -> None:
    """Whole or not at all, where the folder lets that be; a device is written to, not replaced. Raises OSError."""
    write = _writer(frame, path.suffix.lower())
    path = path.resolve()
    if path.exists() and not path.is_file():
        write(path)
        return
    try:
        with replacing(path) as part:
            write(part)
    except OSError:  # the file may be ours, and its folder not; what was answered must not be lost for that
        write(path)


def _writer(frame: pd.DataFrame, ending: str) -> Callable[[Path], object]:
    if ending in PARQUET:
        return lambda path: _write_parquet(frame, path)
    if ending in JSON_LINES:
        return lambda path: path.write_text(_json_lines(frame), encoding="utf-8", errors="replace")
    if ending in JSON:
        text = json.dumps(_records(frame), ensure_ascii=False, indent=1)
        return lambda path: path.write_text(f"{text}\n", encoding="utf-8", errors="replace")
    return lambda path: frame.to_csv(path, index=False)


def _json_lines(frame: pd.DataFrame) -> str:
    return "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in _records(frame))


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    from pyarrow import Table

    parquet_package().write_table(Table.from_pylist(_records(frame)), path)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None where there is nothing, whatever pandas makes of that, and with Python's own numbers."""
    columns = {
        str(name): [None if _is_missing(value) else getattr(value, "item", lambda v=value: v)() for value in cells]
        for name, cells in frame.items()
    }
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)
