"""A file of rows as a command reads it: CSV, JSON, JSON Lines or Parquet, told by its ending."""

import json
from pathlib import Path
from typing import Any

from nimdrum.base.errors import BadInputError

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
INSTALL_PARQUET = "pip install 'nimdrum[parquet]'"


def read_body(path: Path) -> bytes:
    """The rows as DRUM would hand them to `read_input_data`: CSV or JSON as it is, the others as an array of records.

    Raises BadInputError: one sentence that names the file, what is wrong with it, and what to do.
    """
    ending = path.suffix.lower()
    try:
        if path.is_dir():
            raise BadInputError(f"{path} is a folder, and a file of rows is needed: name a file in it.")
        if path.is_file() and path.stat().st_size == 0:
            raise BadInputError(
                f"{path} is empty: write a header line that names the prompt column, and rows below it."
            )
        if ending in PARQUET:
            return _as_array(_parquet_records(path))
        body = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}): name a file that you can read.") from error
    return _json_lines(path, body) if ending in JSON_LINES else body


def _json_lines(path: Path, body: bytes) -> bytes:
    """Each line as it is written, so that numbers keep their digits."""
    lines = []
    for number, line in enumerate(body.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise BadInputError(
                f'Line {number} of {path} is no JSON object: write one in each line, as {{"promptText": "..."}}.'
            )
        lines.append(line)
    return b"[" + b",\n".join(lines) + b"]"


def _parquet_records(path: Path) -> list[dict[str, Any]]:
    parquet = parquet_package()
    try:
        records: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (ValueError, NotImplementedError) as error:  # pyarrow's own errors are ValueErrors
        raise BadInputError(
            f"{path} is no Parquet that can be read ({type(error).__name__}): write it again, or give a CSV."
        ) from None
    return records


def parquet_package() -> Any:
    """pyarrow's Parquet module. Raises BadInputError where it is not installed."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise BadInputError(f"Parquet needs a package that is not installed: {INSTALL_PARQUET}") from None
    return parquet


def _as_array(records: list[dict[str, Any]]) -> bytes:
    return json.dumps(records, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
