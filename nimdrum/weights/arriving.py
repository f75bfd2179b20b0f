"""One file on its way: open, with its parts that are there."""

import os
from dataclasses import dataclass
from pathlib import Path

from nimdrum.weights.folder import FILE_MODE
from nimdrum.weights.parts import REQUEST_PARTS, Journal, RemoteFile


@dataclass
class Arriving:
    """`<file id>.part` in the staging folder. The condition of its Transfer guards the sets and the frontier."""

    file: RemoteFile
    descriptor: int
    resumed: bool
    """Some parts came from an earlier process."""
    written: set[int]
    synced: set[int]
    frontier: int = 0
    """Parts at the beginning of the file without a gap."""

    def advance(self) -> None:
        while self.frontier in self.written:
            self.frontier += 1

    def missing(self) -> list[range]:
        """The parts that are missing, as rows of at most REQUEST_PARTS."""
        found: list[range] = []
        for index in range(self.file.parts):
            if index in self.written:
                continue
            if found and found[-1].stop == index and len(found[-1]) < REQUEST_PARTS:
                found[-1] = range(found[-1].start, index + 1)
            else:
                found.append(range(index, index + 1))
        return found

    def write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.descriptor, view, offset)
            view, offset = view[written:], offset + written


def open_part(file: RemoteFile, staging: Path, journal: Journal, done: set[int]) -> Arriving:
    """Begin `file` in `staging`, or go on with the parts `done` that the journal has of it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(staging / f"{file.file_id}.part", flags, FILE_MODE)
    if os.fstat(descriptor).st_size != file.size:
        os.ftruncate(descriptor, file.size)
        if done:  # of a part file that is gone
            journal.forget(file.file_id)
        done = set()
    done = {index for index in done if index < file.parts}
    each = Arriving(file, descriptor, bool(done), set(done), set(done))
    each.advance()
    return each
