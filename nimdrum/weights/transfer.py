"""The bytes of many files, fetched in parallel parts, safely on disk, and verified while they arrive.

Fetching threads take the parts in order and write them in place; one thread has the disk take them (`fdatasync`) and
only then writes them into the journal; hashing threads follow the unbroken beginning of each file while the kernel
still holds it in memory. Memory stays flat: nobody holds more than a piece of a part.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from nimdrum.base.errors import WeightsError
from nimdrum.weights.checks import SUMS, Digest
from nimdrum.weights.failures import TransientError
from nimdrum.weights.folder import disk_error
from nimdrum.weights.parts import Arriving, Journal, RemoteFile, open_part
from nimdrum.weights.report import Progress

FETCHERS = 8
HASHERS = 2
HASH_BYTES = 4 * 1024 * 1024
SYNC_EVERY_SEC = 0.05
FIRST_PAUSE_SEC, LONGEST_PAUSE_SEC = 0.5, 15.0
LAST_WORDS_SEC = 3.0
EMPTY_ANSWERS = 3
"""So many answers in a row that end early without an error: the object is shorter than its listing says."""


class Reader(Protocol):
    """What the transfer needs of a store."""

    def read(self, each: RemoteFile, start: int, end: int) -> Iterator[bytes]: ...

    def etag_is_md5(self, each: RemoteFile) -> bool: ...


class Damaged(WeightsError):
    """A file whose bytes are not the right ones. `resumed`: some of them came from an earlier process."""

    def __init__(self, message: str, file_id: str, resumed: bool) -> None:
        super().__init__(message)
        self.file_id = file_id
        self.resumed = resumed


class Transfer:
    """Fetches `files` into `staging`, each as `<file id>.part` and, when verified, `<file id>.whole`."""

    def __init__(
        self,
        store: Reader,
        files: Sequence[RemoteFile],
        staging: Path,
        journal: Journal,
        journaled: dict[str, set[int]],
    ) -> None:
        self._store = store
        self._staging = staging
        self._journal = journal
        self._condition = threading.Condition()
        self._stop = threading.Event()
        self._unsynced: list[tuple[Arriving, int]] = []
        self._opens = [open_part(file, staging, journal, journaled.get(file.file_id, set())) for file in files]
        self._todo = [(each, run) for each in reversed(self._opens) for run in reversed(each.missing())]
        self._unhashed = list(reversed(self._opens))
        self.progress = Progress()
        self.error: BaseException | None = None

    def run(self, look: Callable[[Progress], None], every_sec: float = 0.2) -> None:
        """Until all files are whole. `look` is called all the while and may raise to stop. Raises WeightsError."""
        jobs = [self._fetch_forever] * min(FETCHERS, len(self._todo)) + [self._sync_forever]
        hashers = [self._thread(self._hash_forever) for _ in range(min(HASHERS, len(self._opens)))]
        threads = [self._thread(job) for job in jobs]
        try:
            while any(thread.is_alive() for thread in hashers) and self.error is None:
                look(self.progress)
                self._stop.wait(every_sec)
            if self.error is None:
                look(self.progress)
        finally:
            self._stop.set()
            with self._condition:
                self._condition.notify_all()
            deadline = time.monotonic() + LAST_WORDS_SEC
            for thread in (*hashers, *threads):
                thread.join(max(0, deadline - time.monotonic()))
            # One that still sits in a read must not wake up to another file behind its descriptor's number.
            if not any(thread.is_alive() for thread in (*hashers, *threads)):
                for each in self._opens:
                    os.close(each.descriptor)
        if self.error is not None:
            raise self.error

    def _thread(self, job: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guard, args=(job,), name=f"weights{job.__name__}", daemon=True)
        thread.start()
        return thread

    def _guard(self, job: Callable[[], None]) -> None:
        """Run a thread's work; the first error stops all."""
        try:
            job()
        except BaseException as error:  # a panic of obstore's is no Exception, and would be a thread that is missing
            with self._condition:
                if self.error is None and not self._stop.is_set():
                    self.error = disk_error(error, self._staging)
                self._stop.set()
                self._condition.notify_all()

    def _fetch_forever(self) -> None:
        while not self._stop.is_set():
            with self._condition:
                if not self._todo:
                    return
                each, run = self._todo.pop()
            self._fetch(each, run)

    def _fetch(self, each: Arriving, run: range) -> None:
        """Parts in a row with one request; goes on where a broken answer ended. Whether nothing comes for too long is
        the caller's to see."""
        offset, end, done = each.file.span(run[0])[0], each.file.span(run[-1])[1], run[0]
        pause, empty = FIRST_PAUSE_SEC, 0
        while offset < end:
            before = offset
            trouble: TransientError | None = None
            try:
                for piece in self._store.read(each.file, offset, end):
                    if self._stop.is_set():
                        return
                    if offset + len(piece) > end:
                        raise WeightsError(f"{each.file.name!r} is longer in the store than its listing says.")
                    each.write(piece, offset)
                    offset += len(piece)
                    with self._condition:
                        self.progress.fetched += len(piece)
                        self.progress.moved += len(piece)
                        while done in run and offset >= each.file.span(done)[1]:
                            self._written(each, done)
                            done += 1
            except TransientError as error:
                trouble = error
                self.progress.trouble = str(error)
            if offset == end:
                return
            empty = empty + 1 if offset == before and trouble is None else 0
            if empty >= EMPTY_ANSWERS:
                raise WeightsError(
                    f"{each.file.name!r} is shorter in the store than its listing says: it ends after {offset} of "
                    f"{each.file.size} bytes. Upload it again."
                )
            if self._stop.wait(pause):
                return
            pause = FIRST_PAUSE_SEC if offset > before else min(LONGEST_PAUSE_SEC, 2 * pause)

    def _written(self, each: Arriving, index: int) -> None:
        """Part `index` is written, though not yet safe. The condition is held."""
        each.written.add(index)
        each.advance()
        self._unsynced.append((each, index))
        self._condition.notify_all()

    def _sync_forever(self) -> None:
        while True:
            stopping = self._stop.wait(SYNC_EVERY_SEC)
            with self._condition:
                batch, self._unsynced = self._unsynced, []
            for descriptor in {each.descriptor for each, _ in batch}:
                os.fdatasync(descriptor)
            if batch:
                self._journal.add((each.file.file_id, index) for each, index in batch)
                with self._condition:
                    self.progress.moved += len(batch)
                    for each, index in batch:
                        each.synced.add(index)
                    self._condition.notify_all()
            if stopping:
                return

    def _hash_forever(self) -> None:
        while True:
            with self._condition:
                if not self._unhashed:
                    return
                each = self._unhashed.pop()
            if not self._verify(each):
                return
            self._finish(each)

    def _verify(self, each: Arriving) -> bool:
        """Follow the file to its end. False when told to stop; raises Damaged."""
        digest, position, file = Digest(each.file.check), 0, each.file
        while position < file.size:
            with self._condition:
                while (ready := min(file.size, file.span(each.frontier)[0])) <= position and not self._stop.is_set():
                    self._condition.wait(1.0)
            if self._stop.is_set():
                return False
            if not digest.wants_bytes:
                position = ready
                continue
            while position < ready and not self._stop.is_set():
                data = os.pread(each.descriptor, min(HASH_BYTES, ready - position), position)
                if not data:
                    raise WeightsError(f"{file.name!r} became shorter on disk while it was fetched.")
                digest.update(data)
                position += len(data)
                with self._condition:
                    self.progress.moved += len(data)
        verdict = digest.verdict()
        if verdict is False and file.check.kind != "sha256" and not self._store.etag_is_md5(file):
            verdict = None
        if verdict is False:
            kind = {"sha256": "SHA-256", "md5": "MD5 (ETag)", "multipart": "ETag"}[file.check.kind]
            other = " It may also be whole, uploaded in parts of a rare size: a SHA256SUMS beside it tells."
            source = SUMS if file.check.kind == "sha256" else "the store"
            raise Damaged(
                f"{file.name!r} is damaged: its {kind} is not {file.check.value}, as {source} says. Upload it again."
                + (other if file.check.kind == "multipart" else ""),
                file.file_id,
                each.resumed,
            )
        if verdict is None:
            self.progress.unverified.append(file.name)
        return True

    def _finish(self, each: Arriving) -> None:
        with self._condition:
            while len(each.synced) < each.file.parts:
                if self._stop.is_set():
                    return
                self._condition.wait(1.0)
        os.fsync(each.descriptor)
        (self._staging / f"{each.file.file_id}.part").rename(self._staging / f"{each.file.file_id}.whole")
        with self._condition:
            self.progress.whole_files += 1
            self.progress.moved += 1
