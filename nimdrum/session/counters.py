"""Counters that all DRUM processes of one engine share: one small file, changed under a kernel lock.

prometheus_client has a mode for several processes, but it keeps a file for each process, and werkzeug forks one for
each request.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nimdrum.base.errors import SupervisorError
from nimdrum.session.model import Model
from nimdrum.system.locks import lock

LOCK_TIMEOUT_SEC = 1.0

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels]
"""A metric's name and its labels."""


@dataclass(frozen=True)
class Tally:
    """What one prediction came to, in numbers."""

    answered: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    finish_reasons: tuple[str, ...]
    """Each that occurred, once."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed rows by kind."""


class Counters:
    """Numbers that only grow, by sample. What a killed process was just writing is lost, and with it the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, changes: Mapping[Sample, float]) -> None:
        """Add to several at once. Gives up after a second: an answer matters more than its count."""
        with suppress(OSError, SupervisorError):
            descriptor = lock(self._path, LOCK_TIMEOUT_SEC)
            try:
                numbers = _parse(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
                for sample, change in changes.items():
                    numbers[sample] = numbers.get(sample, 0.0) + change
                text = json.dumps([[name, labels, value] for (name, labels), value in numbers.items()]).encode()
                os.pwrite(descriptor, text, 0)
                os.ftruncate(descriptor, len(text))
            finally:
                os.close(descriptor)

    def read(self) -> dict[Sample, float]:
        """All of them; empty while nothing was counted."""
        with suppress(OSError, SupervisorError):
            descriptor = lock(self._path, LOCK_TIMEOUT_SEC, shared=True)
            try:
                return _parse(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            finally:
                os.close(descriptor)
        return {}


def _parse(text: bytes) -> dict[Sample, float]:
    try:
        entries = json.loads(text, parse_constant=lambda _: 0.0)  # infinity and NaN begin anew
        return {(str(n), tuple((str(k), str(v)) for k, v in labels)): float(value) for n, labels, value in entries}
    except (ValueError, TypeError, RecursionError, OverflowError):
        return {}


def counters(model: Model) -> Counters:
    """The counters of this engine's DRUM processes."""
    return Counters(model.attachment.run_dir.path / "counters.json")


def count_rows(model: Model, tally: Tally) -> None:
    """Rows of predictions."""
    sums: dict[Sample, int] = {
        ("nimdrum_rows_total", (("outcome", "answered"),)): tally.answered,
        ("nimdrum_rows_total", (("outcome", "failed"),)): tally.failed,
        ("nimdrum_tokens_total", (("kind", "prompt"),)): tally.prompt_tokens,
        ("nimdrum_tokens_total", (("kind", "completion"),)): tally.completion_tokens,
        **{("nimdrum_row_errors_total", (("kind", kind),)): count for kind, count in tally.errors.items()},
    }
    counters(model).add({sample: float(value) for sample, value in sums.items()})


_windows: dict[str, Callable[[], tuple[int, int]]] = {}


def show_window(run_dir: Path, look: Callable[[], tuple[int, int]]) -> None:
    """`look` gives how many rows this process has in flight at that engine, and how many it may have."""
    _windows[str(run_dir)] = look


def window_of(model: Model) -> tuple[int, int] | None:
    """Rows in flight and their most, of the process that is asked; None where it has sent no rows yet."""
    look = _windows.get(str(model.attachment.run_dir.path))
    return look() if look else None
