"""The answers as a file: CSV as DRUM writes it, JSON, JSON Lines or Parquet, told by its ending; frame by frame."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pandas as pd

from nimdrum.base.errors import SettingsError
from nimdrum.base.files import replacing, sweep
from nimdrum.scoring.frame import NUMBERS
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


class Form(Protocol):
    """Writes frames one below the other; all have the same columns."""

    def add(self, frame: pd.DataFrame) -> None: ...

    def end(self) -> None:
        """Nothing follows."""


@contextmanager
def writing(path: Path) -> Iterator[Form]:
    """Whole or not at all: what is added takes the place of `path` when the block ends well. Raises OSError.

    A device is written to, not replaced; so is a file in a folder where no other can be made.
    """
    path = path.resolve()
    with ExitStack() as stack:
        beside = not path.exists() or path.is_file()
        if beside:
            sweep(path)
            try:
                with ExitStack() as trying:
                    file: BinaryIO = trying.enter_context(trying.enter_context(replacing(path)).open("wb"))
                    stack.enter_context(trying.pop_all())
            except OSError:  # the file may be ours, and its folder not
                beside = False
        if not beside:
            file = stack.enter_context(_copied_to(path))
        form = _form(path.suffix.lower(), file)
        yield form
        form.end()
        file.flush()
        if beside:
            os.fsync(file.fileno())  # before the rename: a journal may go next


@contextmanager
def printing(ending: str) -> Iterator[Form]:
    """To standard output, when the block ends well; what is no text there goes as JSON Lines."""
    with tempfile.TemporaryFile() as file:
        form = _form(ending if ending in CSV else JSON_LINES[0], file)
        yield form
        form.end()
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@contextmanager
def _copied_to(path: Path) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        with path.open("wb") as target:
            shutil.copyfileobj(file, target)


def _form(ending: str, file: BinaryIO) -> Form:
    if ending in PARQUET:
        return _Parquet(file)
    if ending in JSON_LINES:
        return _JsonLines(file)
    return _Json(file) if ending in JSON else _Csv(file)


class _Csv:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._header = True

    def add(self, frame: pd.DataFrame) -> None:
        self._file.write(frame.to_csv(index=False, header=self._header).encode("utf-8", "replace"))
        self._header = False

    def end(self) -> None: ...


class _JsonLines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, frame: pd.DataFrame) -> None:
        for record in _records(frame):
            self._file.write(f"{json.dumps(record, ensure_ascii=False)}\n".encode("utf-8", "replace"))

    def end(self) -> None: ...


class _Json:
    """An array, with a field in each line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._before = b"[\n "

    def add(self, frame: pd.DataFrame) -> None:
        for record in _records(frame):
            text = json.dumps(record, ensure_ascii=False, indent=1).replace("\n", "\n ")
            self._file.write(self._before + text.encode("utf-8", "replace"))
            self._before = b",\n "

    def end(self) -> None:
        self._file.write(b"\n]\n")


class _Parquet:
    """The first frame tells the columns; in it one may have no value yet, so what numbers are is known before."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    def add(self, frame: pd.DataFrame) -> None:
        import pyarrow

        records = _records(frame)
        if self._writer is None:
            inferred = pyarrow.Table.from_pylist(records).schema
            kinds = {int: pyarrow.int64(), float: pyarrow.float64()}
            empty = {name: kinds[kind] for name, kind in NUMBERS.items()}
            fields = [
                each.with_type(empty.get(each.name, pyarrow.string())) if pyarrow.types.is_null(each.type) else each
                for each in inferred
            ]
            self._writer = parquet_package().ParquetWriter(self._file, pyarrow.schema(fields))
        self._writer.write_table(pyarrow.Table.from_pylist(records, schema=self._writer.schema))

    def end(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None where there is nothing, whatever pandas makes of that, and with Python's own numbers."""
    columns = {
        str(name): [None if _is_missing(value) else getattr(value, "item", lambda v=value: v)() for value in cells]
        for name, cells in frame.items()
    }
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)
