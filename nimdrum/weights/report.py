"""How far a fetch is: counted, told every few seconds, and ended when it stands still."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nimdrum.base.errors import WeightsError
from nimdrum.weights.parts import RemoteFile

TELL_EVERY_SEC = 5.0

Tell = Callable[..., None]
"""An event's name and fields."""


class StoppedError(Exception):
    """The fetch was told to stop."""


@dataclass
class Progress:
    """Bytes since the beginning of this process; only grows."""

    fetched: int = 0
    moved: int = 0
    """Also counts hashing and syncing: what stands still is stuck."""
    whole_files: int = 0
    trouble: str = ""
    """What the store said last when it could not be read."""
    unverified: list[str] = field(default_factory=list)


class ProgressWatch:
    """Tells how far a transfer is, and ends it when it is stopped or stuck."""

    def __init__(
        self,
        files: list[RemoteFile],
        missing: list[RemoteFile],
        journaled: dict[str, set[int]],
        tell: Tell,
        stopped: Callable[[], bool],
        stall_timeout_sec: float,
    ) -> None:
        self._tell = tell
        self._stopped = stopped
        self._stall_timeout_sec = stall_timeout_sec
        self._files = len(files)
        self._whole = len(files) - len(missing)
        self._total = sum(file.size for file in files)
        there = sum(file.size for file in files) - sum(file.size for file in missing)
        parts = (file.span(i) for file in missing for i in journaled.get(file.file_id, ()))
        self._there = there + sum(end - start for start, end in parts)
        self._began = self._moved_at = time.monotonic()
        self._moved = 0
        self._told = (self._began - TELL_EVERY_SEC, 0)

    def look(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._stopped():
            raise StoppedError
        if progress.moved != self._moved:
            self._moved, self._moved_at = progress.moved, now
        elif now - self._moved_at >= self._stall_timeout_sec:
            raise WeightsError(
                f"No byte came for {now - self._moved_at:.0f} s. What has arrived is kept for the next start. "
                f"{progress.trouble or 'The store or the network stands still.'}"
            )
        told_at, told = self._told
        if now - told_at >= TELL_EVERY_SEC:
            self._told = (now, progress.fetched)
            done = self._there + progress.fetched
            self._tell(
                "weights.fetching",
                percent=int(100 * done / self._total) if self._total else 100,
                done_gb=round(done / 1e9, 3),
                total_gb=round(self._total / 1e9, 3),
                mb_per_sec=round((progress.fetched - told) / 1e6 / max(now - told_at, 0.001), 1),
                files=f"{self._whole + progress.whole_files}/{self._files}",
            )
