"""A batch's journal: each row's result is in a file when its answer counts, so the next run asks only for the rest.

One process at a time has it (`flock`). A row is written in less than a second after it is done, which outlives this
process whatever ends it; the disk has it some seconds later, which matters when the machine goes down
(docs/decisions/0016).
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from nimdrum.base.errors import JournalError
from nimdrum.base.log import get_logger
from nimdrum.scoring.answer import RowFailure
from nimdrum.scoring.entries import HEADER, Entry, Index, as_end, as_line, is_end, is_kept, read_line
from nimdrum.scoring.fingerprint import fingerprint_of_body
from nimdrum.scoring.row import Result

SYNC_SEC = 5.0
TOGETHER = 1 / 4
"""The share of the rows in flight that may wait to be written together, for a third of what one alone costs. A kill
loses what is in flight anyway."""

log = get_logger("score")


class Journal:
    """An open journal. `add` and `flush` are called in the loop, the rest from any thread."""

    def __init__(self, path: Path, descriptor: int, retry_failed: bool, clock: Callable[[], float]) -> None:
        self.path = path
        self.failed = 0
        """How many of the entries of earlier runs are failures."""
        self.added = 0
        self.has_ended = False
        """Whether its answers were all written, with failed rows among them."""
        self._descriptor = descriptor
        self._clock = clock
        self._synced = clock()
        self._unsynced = False
        self._pending: list[tuple[int, bytes, bool, Result]] = []
        self._error: JournalError | None = None
        self._taking = threading.Lock()
        self._size = len(HEADER)
        self._index = Index()
        for entry, offset, length in self._read():
            failed = isinstance(entry.result, RowFailure)
            if not (failed and retry_failed):
                self._index.add(entry, offset, length)
                self.failed += failed
        self._index.close()

    @property
    def kept(self) -> int:
        """Entries of earlier runs: their rows are not asked again when they come."""
        return len(self._index)

    @property
    def waiting(self) -> int:
        """Results that were added and are not written yet."""
        return len(self._pending)

    def find(self, fingerprints: Sequence[str]) -> list[Result | None]:
        """What is known already of rows with these requests, in order; each entry is given to one row only."""
        with self._taking:
            places = self._index.take(fingerprints)
        results: list[Result | None] = []
        for asked, place in zip(fingerprints, places, strict=True):
            entry = read_line(os.pread(self._descriptor, place[1], place[0])) if place else None
            results.append(entry.result if entry and entry.fingerprint == asked else None)
        return results

    def add(self, row: int, body: bytes, split_reasoning: bool, result: Result, in_flight: int) -> None:
        """The result of row `row`, counted from 1, whose request is `body`: written with others, soon where many rows
        are done; for the rest call `flush` now and then, and at the end. `in_flight` are the rows that are under way.

        Raises JournalError when what was added before could not be written.
        """
        self.check()
        if is_kept(result):
            self._pending.append((row, body, split_reasoning, result))
            if len(self._pending) >= in_flight * TOGETHER:
                self.flush()

    def flush(self) -> None:
        """Write what was added. What goes wrong is told by `check`; what was written before stays whole."""
        pending, self._pending = self._pending, []
        lines = b"".join(as_line(row, fingerprint_of_body(body, split), result) for row, body, split, result in pending)
        written = 0
        try:
            while written < len(lines):  # a full disk takes a part, and says so at the next try
                written += os.write(self._descriptor, lines[written:])
        except OSError as error:
            written = lines.rfind(b"\n", 0, written) + 1
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size + written)
            self._error = JournalError(
                f"The journal {self.path} cannot be written ({error.strerror}): the rows answered so far are in it; "
                "make room, and run the same again to go on."
            )
        self._size += written
        self.added += lines.count(b"\n", 0, written)
        self._unsynced = self._unsynced or bool(written)

    def check(self) -> None:
        """Raises JournalError when it could not be written."""
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """Have the disk take what is new, every few seconds; call it more often. Raises as `check` does."""
        self.check()
        now = self._clock()
        if self._unsynced and now - self._synced >= SYNC_SEC:
            self._synced, self._unsynced = now, False
            with suppress(OSError):  # the next write tells
                os.fdatasync(self._descriptor)

    def end(self, rows: int, failed: int) -> None:
        """Say at its end that the answers are written, and close it: with failed rows it may be of use."""
        with suppress(OSError):
            os.write(self._descriptor, as_end(rows, failed))
        self.close()

    def empty(self) -> None:
        """Forget all that is in it."""
        os.ftruncate(self._descriptor, len(HEADER))
        self._size, self._index, self.failed, self.has_ended = len(HEADER), Index(), 0, False

    def remove(self) -> None:
        """It is not needed any more."""
        with suppress(OSError):
            self.path.unlink()
        self._let_go()

    def close(self) -> None:
        """Let others have it."""
        with suppress(OSError):
            os.fsync(self._descriptor)
        self._let_go()

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _journals.pop(self.path, None)
            os.close(descriptor)

    def _read(self) -> Iterator[tuple[Entry, int, int]]:
        """Every entry with its place. What was not written to its end is cut off."""
        offset = 0
        unreadable = 0
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.has_ended = is_end(line)
                if offset and (entry := read_line(line)) is not None:
                    yield entry, offset, len(line)
                elif offset and not self.has_ended:
                    unreadable += 1
                offset += len(line)
        os.ftruncate(self._descriptor, offset)
        self._size = offset
        if unreadable:
            log.warning("%d lines of the journal %s cannot be read; their rows are asked again.", unreadable, self.path)


class NoJournal:
    """In the place of a `Journal` where none is kept."""

    waiting = 0

    def add(self, row: int, body: bytes, split_reasoning: bool, result: Result, in_flight: int) -> None:
        pass

    def flush(self) -> None:
        pass

    def sync(self) -> None:
        pass

    def check(self) -> None:
        pass


_journals: dict[Path, Journal] = {}


def journal_at(path: Path, retry_failed: bool = False, clock: Callable[[], float] = time.monotonic) -> Journal:
    """This process's journal at `path`, made where there is none: only its owner may read it.

    With `retry_failed` rows that failed count as not asked. Raises JournalError: it is another's, or no journal, or
    cannot be written.
    """
    path = path.absolute()
    if path not in _journals:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"No journal can be kept at {path} ({error.strerror}): make its folder one that you can write to, or "
                "name another place with the runtime parameter journal."
            ) from error
        try:
            _lock(path, descriptor)
            _check_header(path, descriptor)
            _journals[path] = Journal(path, descriptor, retry_failed, clock)
        except BaseException:
            os.close(descriptor)
            raise
    return _journals[path]


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(
            f"Another run has the journal {path}: wait until it has ended, or name another output."
        ) from None
    except OSError as error:
        log.warning("%s cannot be locked there (%s): let no second run use it.", path, error.strerror)


def _check_header(path: Path, descriptor: int) -> None:
    """Raises JournalError for a file that is something else, which stays as it is."""
    try:
        found = os.pread(descriptor, len(HEADER), 0)
        if found == HEADER:
            return
        if not HEADER.startswith(found):
            raise JournalError(
                f"{path} is no journal of this release: finish it with the one that wrote it, or name another file."
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, HEADER)
    except OSError as error:
        raise JournalError(
            f"The journal {path} cannot be written ({error.strerror}): make room, or mend it."
        ) from error
