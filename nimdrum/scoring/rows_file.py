"""A file of rows as a command reads it: CSV, JSON, JSON Lines or Parquet, told by its ending; whole, or in pieces.

A piece is rows as DRUM would hand them to `read_input_data`. A CSV, JSON Lines or Parquet of any size is read with the
memory of some pieces; a JSON array, a CSV that is JSON inside, and what is no plain file (a pipe) are one piece.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimdrum.base.errors import BadInputError
from nimdrum.scoring.reader import csv_rows, is_plain_csv, not_utf8, read_rows

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
INSTALL_PARQUET = "pip install 'nimdrum[parquet]'"
PIECE_ROWS = 2000
PIECE_CHARACTERS = 8 << 20
START_BYTES = 4096


@dataclass(frozen=True)
class Piece:
    """Rows as DRUM would hand them over, and how many they are."""

    body: bytes
    rows: int


@dataclass(frozen=True)
class RowsFile:
    """A file that was read once, from its first row to its last, and found good."""

    path: Path
    rows: int
    columns: tuple[str, ...]
    body: bytes | None = None
    """All of it, where it is one piece."""

    def pieces(self) -> Iterator[Piece]:
        """Its rows in order. Raises BadInputError where it has changed for the worse meanwhile."""
        if self.body is not None:
            yield Piece(self.body, self.rows)
            return
        with _told(self.path):
            yield from _PIECES[_form(self.path)](self.path, self.columns)

    def whole(self) -> Piece:
        return Piece(read_body(self.path) if self.body is None else self.body, self.rows)


def look_through(path: Path) -> RowsFile:
    """Read `path` once. Raises BadInputError: one sentence that names the file, what is wrong, and what to do."""
    with _told(path):
        form = _form(path)
        if form == "whole":
            body = read_body(path)
            frame = read_rows(body)
            return RowsFile(path, len(frame), tuple(map(str, frame.columns)), body)
        return _LOOKS[form](path)


def read_body(path: Path) -> bytes:
    """All rows as DRUM would hand them over: CSV or JSON as it is, the others as an array of records. Raises
    BadInputError, as `look_through` does."""
    with _told(path):
        if path.suffix.lower() in PARQUET:
            with _parquet(path) as file:
                return _records(file.read())
        if path.suffix.lower() in JSON_LINES:
            return _as_array(line for line, _ in _json_lines(path))
        return path.read_bytes()


def _form(path: Path) -> str:
    """How it is read in pieces: "csv", "json lines" or "parquet"; or "whole"."""
    if path.is_dir():
        raise BadInputError(f"{path} is a folder, and a file of rows is needed: name a file in it.")
    if path.is_file() and path.stat().st_size == 0:
        raise BadInputError(f"{path} is empty: write a header line that names the prompt column, and rows below it.")
    if path.suffix.lower() in PARQUET:
        return "parquet"
    if path.exists() and not path.is_file():
        return "whole"
    if path.suffix.lower() in JSON_LINES:
        return "json lines"
    with path.open("rb") as file:
        return "csv" if is_plain_csv(file.read(START_BYTES)) else "whole"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}): name a file that you can read.") from error


class _Csv:
    """The lines of a CSV, remembered until somebody takes them. Iterable once."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self._read: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self._read.append(line)
            yield line

    def taken(self) -> str:
        text, self._read = "".join(self._read), []
        return text


@contextmanager
def _csv(path: Path) -> Iterator[_Csv]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield _Csv(file)
        except UnicodeDecodeError as error:
            with path.open("rb") as binary:
                for number, line in enumerate(binary, 1):
                    try:
                        line.decode("utf-8")
                    except UnicodeDecodeError as found:
                        raise not_utf8(line[found.start], number) from None
            raise not_utf8(error.object[error.start], 1) from None


def _look_at_csv(path: Path) -> RowsFile:
    with _csv(path) as lines:
        rows = csv_rows(lines)
        columns = next(rows)
        count = sum(lines.taken() is not None for _ in rows)
    return RowsFile(path, count, tuple(columns))


def _csv_pieces(path: Path, columns: tuple[str, ...]) -> Iterator[Piece]:
    """Each with the header, so that it is a CSV of its own."""
    with _csv(path) as lines:
        rows = csv_rows(lines)
        next(rows)
        header = lines.taken()
        for texts in _in_pieces(lines.taken() for _ in rows):
            yield Piece("".join((header, *texts)).encode(), len(texts))


def _in_pieces(texts: Iterable[Any]) -> Iterator[list[Any]]:
    """`texts` in lists, none longer than a piece may be."""
    held: list[Any] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if len(held) >= PIECE_ROWS or size >= PIECE_CHARACTERS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _json_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line as it is written, so that numbers keep their digits, and its record."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            line = line.strip()
            if not line:
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise BadInputError(
                    f'Line {number} of {path} is no JSON object: write one in each line, as {{"promptText": "..."}}.'
                )
            yield line, record


def _look_at_json_lines(path: Path) -> RowsFile:
    columns: dict[str, None] = {}
    count = sum(columns.update(dict.fromkeys(record)) is None for _, record in _json_lines(path))
    return RowsFile(path, count, tuple(columns))


def _json_pieces(path: Path, columns: tuple[str, ...]) -> Iterator[Piece]:
    """Each has all columns of the file, in its order: a record may leave some out, and all of a piece may."""
    first = json.dumps(dict.fromkeys(columns))[:-1].encode()
    for lines in _in_pieces(line for line, _ in _json_lines(path)):
        # The first record's own values come later, and so they count.
        lines[0] = first + b", " + lines[0][1:] if lines[0][1:].strip() != b"}" else first + b"}"
        yield Piece(_as_array(lines), len(lines))


def _as_array(records: Iterable[bytes]) -> bytes:
    return b"[" + b",\n".join(records) + b"]"


def _look_at_parquet(path: Path) -> RowsFile:
    with _parquet(path) as file:
        return RowsFile(path, file.metadata.num_rows, tuple(file.schema_arrow.names))


def _parquet_pieces(path: Path, columns: tuple[str, ...]) -> Iterator[Piece]:
    with _parquet(path) as file:
        for batch in file.iter_batches(PIECE_ROWS):
            yield Piece(_records(batch), len(batch))


def _records(table: Any) -> bytes:
    return json.dumps(table.to_pylist(), ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    parquet = parquet_package()
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (ValueError, NotImplementedError) as error:  # pyarrow's own errors are ValueErrors
        raise BadInputError(
            f"{path} is no Parquet that can be read ({type(error).__name__}): write it again, or give a CSV."
        ) from None


def parquet_package() -> Any:
    """pyarrow's Parquet module. Raises BadInputError where it is not installed."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise BadInputError(f"Parquet needs a package that is not installed: {INSTALL_PARQUET}") from None
    return parquet


_LOOKS = {"csv": _look_at_csv, "json lines": _look_at_json_lines, "parquet": _look_at_parquet}
_PIECES = {"csv": _csv_pieces, "json lines": _json_pieces, "parquet": _parquet_pieces}
