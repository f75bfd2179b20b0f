"""The lines of a journal, and the answers that are found in them again. Pure; docs/journal.md describes the lines."""

import json
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import numpy as np
import orjson

from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.row import Result

HEADER = b'{"journal": "nimdrum", "format": 1}\n'
RESULTS: dict[str, Callable[..., Result]] = {"answer": Completion, "failure": RowFailure}
NOBODY_ANSWERED = frozenset(("empty_prompt", "bad_row", "unknown_model", "engine_down", "skipped"))
"""Kinds of failure that are not written down: the engine was not asked, or was not there. Such a row is missing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: the row's number, from 1, when it was asked, the fingerprint of its request, and what came of it."""

    row: int
    fingerprint: str
    result: Result


def is_kept(result: Result) -> bool:
    """Whether `result` belongs into a journal."""
    return isinstance(result, Completion) or result.kind not in NOBODY_ANSWERED


def as_line(row: int, asked: str, result: Result) -> bytes:
    """An entry as a line of JSON, with the fields of the result that say something."""
    what = "answer" if isinstance(result, Completion) else "failure"
    names, values_of, defaults = FIELDS[type(result)]
    values = zip(names, values_of(result), defaults, strict=True)
    document = {"row": row, "asked": asked, what: {name: value for name, value, default in values if value != default}}
    try:
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a lone surrogate, which JSON's escapes can hold
        return json.dumps(document).encode() + b"\n"


def read_line(line: bytes) -> Entry | None:
    """The entry in `line`; None when it is none, as where a machine went down while it was written."""
    try:
        document = _read(line)
        what = next(name for name in RESULTS if name in document)
        int(document["asked"], 16)
        return Entry(int(document["row"]), document["asked"], _result_of(what, document[what]))
    except (ValueError, TypeError, KeyError, StopIteration, RecursionError):
        return None


def _read(line: bytes) -> Any:
    with suppress(ValueError):
        return orjson.loads(line)
    return json.loads(line)  # it reads lone surrogates, too


def as_end(rows: int, failed: int) -> bytes:
    """The last line of a run whose answers were written, with failed rows among them."""
    return orjson.dumps({"ended": {"rows": rows, "failed": failed}}, option=orjson.OPT_APPEND_NEWLINE)


def is_end(line: bytes) -> bool:
    return line.startswith(b'{"ended"')


def _result_of(what: str, record: dict[str, Any]) -> Result:
    """Raises TypeError or KeyError for what is none."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
    return RESULTS[what](**given)


def _fields_of(result: type[Result]) -> tuple[list[str], Callable[[Result], tuple[Any, ...]], list[Any]]:
    names = [field.name for field in fields(result)]
    return names, attrgetter(*names), [field.default for field in fields(result)]


FIELDS = {each: _fields_of(each) for each in (Completion, RowFailure)}
"""Names, how to get their values, and their defaults, which are left out: no value equals that of a field without."""


class Index:
    """Where in a journal the entries of a fingerprint stand. Each is given once, so that two rows with the same request
    have two answers; a failure is given only when no answer is left. 24 bytes an entry."""

    def __init__(self) -> None:
        self._added = (array("Q"), array("B"), array("Q"), array("I"))
        self.close()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, entry: Entry, offset: int, length: int) -> None:
        """An entry that was read. `close` after the last one."""
        values = (_key(entry.fingerprint), isinstance(entry.result, RowFailure), offset, length)
        for column, value in zip(self._added, values, strict=True):
            column.append(value)

    def close(self) -> None:
        """From now on entries are given."""
        keys, failed, offsets, lengths = (np.array(column) for column in self._added)
        order = np.lexsort((failed, keys))
        self._keys, self._offsets, self._lengths = keys[order], offsets[order], lengths[order]
        self._taken = np.zeros(len(keys), np.uint32)
        """For the first of each run of equal keys: how many of the run are given away."""
        self._added = tuple(column[:0] for column in self._added)  # type: ignore[assignment]

    def take(self, fingerprints: Sequence[str]) -> list[tuple[int, int] | None]:
        """For each, in order, offset and length of its next entry, or None. Half of the fingerprint is compared: who
        reads the line compares the rest."""
        wanted = np.fromiter(map(_key, fingerprints), np.uint64, len(fingerprints))
        firsts = np.searchsorted(self._keys, wanted)
        found: list[tuple[int, int] | None] = [None] * len(wanted)
        for number in np.flatnonzero(firsts < len(self)).tolist():
            first = int(firsts[number])
            place = first + int(self._taken[first])
            if place < len(self) and self._keys[place] == wanted[number]:
                self._taken[first] += 1
                found[number] = (int(self._offsets[place]), int(self._lengths[place]))
        return found


def _key(fingerprint: str) -> int:
    return int(fingerprint[:16], 16)
