"""What makes a fetched file the right one: names, sizes and checksums. Pure.

A `SHA256SUMS` file (the format of coreutils' sha256sum) in the tree comes first. Without it the store's ETag counts
where it is known to be an MD5: in S3, of the object, or for one that was uploaded in N parts (`...-N`) of the parts'
MD5s. Sizes always count.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nimdrum.base.errors import WeightsError

SUMS = "SHA256SUMS"
SUMS_LINE = re.compile(r"^([0-9a-fA-F]{64}) [ *](.+)$")
MIB = 1024 * 1024
USUAL_PART_SIZES = (
    *(n * MIB for n in (8, 16, 5, 64, 32, 100, 128, 10, 15, 20, 25, 50, 256, 512, 1024)),
    *(n * 1_000_000 for n in (5, 8, 10, 16, 50, 64, 100, 128)),
)
"""What uploaders take: aws and boto3 8 MiB, MinIO's mc 16, rclone 5, others."""
MOST_CANDIDATES = 4
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Check:
    """How one file is verified: sha256, md5, multipart (`value` is S3's ETag) or size."""

    kind: str
    value: str = ""
    part_sizes: tuple[int, ...] = ()
    """multipart: sizes that the uploader's parts may have had; empty when nobody can tell."""


def read_sums(text: str) -> dict[str, str]:
    """Name to SHA-256 (hex) of a SHA256SUMS file. Raises WeightsError with the line."""
    sums: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not line.strip():
            continue
        match = SUMS_LINE.match(line)
        if match is None:
            raise WeightsError(
                f"Line {number} of {SUMS} is not `<64 hex digits>  <name>`. Make it again with: "
                f"find . -type f ! -name {SUMS} -print0 | xargs -0 sha256sum > {SUMS}"
            )
        sums[match[2].removeprefix("./")] = match[1].lower()
    sums.pop(SUMS, None)  # `sha256sum * > SHA256SUMS` for the second time: no file can hold its own sum
    return sums


def refuse_unsafe(names: Iterable[str], reserved: Sequence[str]) -> None:
    """Raise WeightsError when a name would leave the folder, hide one of ours, or clash with another name."""
    seen: set[str] = set()
    folders: set[str] = set()
    for name in names:
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or CONTROL.search(name):
            raise WeightsError(f"The name {name!r} is not a plain path inside the folder, so nothing was fetched.")
        if parts[0] in reserved:
            raise WeightsError(f"The name {name!r} belongs to nimdrum's own files. Remove it from the store.")
        seen.add(name)
        folders.update("/".join(parts[:i]) for i in range(1, len(parts)))
    if both := sorted(seen & folders):
        raise WeightsError(f"The name {both[0]!r} is a file and a folder at once in the store. Rename one of them.")


def check_for(scheme: str, name: str, size: int, etag: str | None, sums: Mapping[str, str]) -> Check:
    """How the object `name` is verified."""
    if name in sums:
        return Check("sha256", sums[name])
    value = (etag or "").strip('"').lower()
    if scheme == "s3" and re.fullmatch(r"[0-9a-f]{32}", value):
        return Check("md5", value)
    if scheme == "s3" and (match := re.fullmatch(r"[0-9a-f]{32}-(\d{1,5})", value)):
        return Check("multipart", value, part_sizes(size, int(match[1])))
    return Check("size")


def part_sizes(size: int, parts: int) -> tuple[int, ...]:
    """Part sizes with which `size` bytes make so many parts: usual ones, and all whole MiB where those are few."""
    if parts == 1:
        return (max(size, 1),)
    fitting = [each for each in USUAL_PART_SIZES if -(-size // each) == parts]
    low, high = -(-size // parts), -(-size // (parts - 1))  # low <= part size < high
    whole = range(-(-low // MIB), -(-high // MIB))
    if len(whole) <= MOST_CANDIDATES:
        fitting += [n * MIB for n in whole if n * MIB not in fitting]
    return tuple(fitting[:MOST_CANDIDATES])


class Digest:
    """The digests of one file's bytes, fed in order."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._whole: Any = hashlib.sha256() if check.kind == "sha256" else _md5() if check.kind == "md5" else None
        self._parts = [_PartDigests(size) for size in check.part_sizes]

    @property
    def wants_bytes(self) -> bool:
        return self._whole is not None or bool(self._parts)

    def update(self, data: bytes) -> None:
        if self._whole is not None:
            self._whole.update(data)
        for part in self._parts:
            part.update(data)

    def verdict(self) -> bool | None:
        """Whether the bytes are the right ones; None when the check cannot tell (no checksum, or unknown parts)."""
        if self._whole is not None:
            return bool(self._whole.hexdigest() == self._check.value)
        return any(part.etag() == self._check.value for part in self._parts) if self._parts else None


class _PartDigests:
    """S3's ETag of a multipart upload with parts of one size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._now = _md5()
        self._done: list[bytes] = []

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece, view = view[: self._left], view[self._left :]
            self._now.update(piece)
            self._left -= len(piece)
            if self._left == 0:
                self._next()

    def _next(self) -> None:
        self._done.append(self._now.digest())
        self._now, self._left = _md5(), self._size

    def etag(self) -> str:
        if self._left < self._size or not self._done:
            self._next()
        return f"{_md5(b''.join(self._done)).hexdigest()}-{len(self._done)}"


def _md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)  # what S3's ETag is made of
