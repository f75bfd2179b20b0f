"""Files in parts: which parts of which file are on disk, written down so that a killed fetch goes on from there."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nimdrum.weights.checks import Check
from nimdrum.weights.folder import FILE_MODE

PART_BYTES = 4 * 1024 * 1024
"""What is written down, and so what a kill may cost for each request on its way."""
REQUEST_PARTS = 4
"""Parts that one request asks for at most."""
FORGOTTEN = "-"
HEADER = f"nimdrum-parts 1 {PART_BYTES}"


@dataclass(frozen=True)
class RemoteFile:
    """One object to fetch. `key` is its path in the store, `name` its path in the folder."""

    name: str
    key: str
    size: int
    etag: str | None
    check: Check
    file_id: str

    @property
    def parts(self) -> int:
        return -(-self.size // PART_BYTES)

    def span(self, index: int) -> tuple[int, int]:
        """First byte of part `index` and the one after its last."""
        return index * PART_BYTES, min(self.size, (index + 1) * PART_BYTES)


def file_id(uri: str, name: str, size: int, version: str, check: Check) -> str:
    """Names one version of one object: another size, ETag or checksum is another file."""
    what = "\0".join((uri, name, str(size), version, check.value))
    return hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:24]


class Journal:
    """The parts that are safely on disk, one line each. A torn last line is a part that is fetched again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def open(self) -> dict[str, set[int]]:
        """Begin or go on; what the last fetch had, by file id. A journal of another kind counts as none."""
        done: dict[str, set[int]] = {}
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, FILE_MODE)
        with open(self._descriptor, "rb", closefd=False) as file:
            whole_lines = file.read().rpartition(b"\n")[0]
        lines = whole_lines.decode("ascii", "replace").split("\n")
        if lines[0] == HEADER:
            os.ftruncate(self._descriptor, len(whole_lines) + 1)  # `12` torn is `1`: it must not stay
        else:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{HEADER}\n".encode())
            return done
        for line in lines[1:]:
            name, _, index = line.partition(" ")
            if index.isdigit():
                done.setdefault(name, set()).add(int(index))
            elif index == FORGOTTEN:
                done.pop(name, None)
        return done

    def add(self, parts: Iterable[tuple[str, int]]) -> None:
        """Write down parts whose bytes the disk has."""
        os.write(self._descriptor, "".join(f"{name} {index}\n" for name, index in parts).encode())

    def forget(self, name: str) -> None:
        """Whatever was written of this file does not count any more: its part file is gone."""
        os.write(self._descriptor, f"{name} {FORGOTTEN}\n".encode())

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


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
