"""Ids of rows, by which a run knows what an earlier one has answered; another question is another id."""

import hashlib
import json
from dataclasses import dataclass

import pyarrow as pa

ID = "nimdrum_row"
ROW_HASH = "row_hash"
"""Ray's name for a hash of a row's place: its file, and its number in it."""


@dataclass(frozen=True)
class RowIds:
    """Ids of rows: of what decides all answers, and of the cells of `columns`, a key among them."""

    fingerprint: str
    columns: tuple[str, ...]

    def put(self, table: pa.Table) -> pa.Table:
        """`table` with their column."""
        cells = [table[name].to_pylist() for name in self.columns]
        ids = pa.array([self._id(row) for row in zip(*cells, strict=True)], pa.string())
        return table.drop_columns([name for name in (ID,) if name in table.column_names]).append_column(ID, ids)

    def replace_hash(self, table: pa.Table) -> pa.Table:
        """`table` with their column, and without Ray's hash, which is in the ids."""
        return self.put(table).drop_columns([name for name in (ROW_HASH,) if name in table.column_names])

    def _id(self, cells: tuple[object, ...]) -> str:
        text = json.dumps([self.fingerprint, *cells], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]
