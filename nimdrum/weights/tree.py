"""A tree of weights, fetched whole or not at all.

What arrives lies in a hidden folder of the target, under names of its own. Only when every file is whole and verified
they get their final names, and then the marker is written. A fetch that is killed at any moment is taken up from there.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nimdrum.base.errors import WeightsError
from nimdrum.weights import folder as names
from nimdrum.weights.checks import check_for, refuse_unsafe
from nimdrum.weights.claim import Claim
from nimdrum.weights.folder import Tree, disk_error, read_tree, size_of
from nimdrum.weights.parts import Journal, RemoteFile, file_id
from nimdrum.weights.publish import NEXT, OLD, is_published, make_folder, publish
from nimdrum.weights.report import TELL_EVERY_SEC, ProgressWatch, StoppedError, Tell
from nimdrum.weights.store import Store
from nimdrum.weights.transfer import Damaged, Transfer

WAIT_SEC = 0.5
SPARE_BYTES = 16 * 1024 * 1024
"""Left free for the journal, the marker and whoever else writes there."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch did."""

    files: int
    total_bytes: int
    fetched_bytes: int
    """From the store, in this call; 0 when all was there."""
    seconds: float
    changed: bool
    """Whether the folder holds another tree than before."""


class TreeFetch:
    """One fetch of one source into one folder. `open_store` is called only when something must be fetched, or with
    `renew`, which also asks the store for what is new where a whole tree is there."""

    def __init__(
        self,
        uri: str,
        target: Path,
        open_store: Callable[[], Store],
        tell: Tell,
        stopped: Callable[[], bool],
        stall_timeout_sec: float,
        *,
        renew: bool = False,
    ) -> None:
        self._renew = renew
        self._changed = False
        self._uri = uri
        self._target = target
        self._open_store = open_store
        self._tell = tell
        self._stopped = stopped
        self._stall_timeout_sec = stall_timeout_sec
        self._staging = target / names.STAGING
        self._marker = target / names.MARKER

    def run(self) -> Fetched:
        """See that the whole tree is in the folder. Raises WeightsError and StoppedError."""
        began = time.monotonic()
        try:
            tree = self._whole_tree()
            if tree is not None and not self._renew:  # also on a volume that is mounted read-only
                return self._summary(tree, 0, began)
            make_folder(self._target, self._target)
            claim = Claim(self._target / names.LOCK)
            self._wait_for(claim)
            try:
                tree, fetched = self._fetch_unless_there()
            finally:
                claim.release()
        except OSError as error:
            raise disk_error(error, self._target) from None
        return self._summary(tree, fetched, began)

    def _summary(self, tree: Tree, fetched: int, began: float) -> Fetched:
        total = sum(size for size, _ in tree.files.values())
        return Fetched(len(tree.files), total, fetched, time.monotonic() - began, self._changed)

    def _whole_tree(self) -> Tree | None:
        """The tree of our URI, if it is there and every file has its size."""
        tree = read_tree(self._marker)
        return tree if tree is not None and tree.uri == self._uri and tree.is_whole_in(self._target) else None

    def _wait_for(self, claim: Claim) -> None:
        told = -TELL_EVERY_SEC
        while not claim.take():
            if self._stopped():
                raise StoppedError
            if time.monotonic() - told >= TELL_EVERY_SEC:
                told = time.monotonic()
                self._tell("weights.waiting", holder=claim.holder, target=self._target)
            time.sleep(WAIT_SEC)

    def _fetch_unless_there(self) -> tuple[Tree, int]:
        there = self._whole_tree()
        if there is not None and not self._renew:  # by the one that we waited for
            return there, 0
        store = self._open_store()
        files = self._listed(store)
        tree = Tree(self._uri, {file.name: (file.size, file.file_id) for file in files})
        if there == tree:
            return tree, 0
        make_folder(self._staging, self._target)
        try:
            fetched = self._fetch(store, files)
        except BaseException:
            self._remove_if_empty()
            raise
        publish(tree, self._target)
        self._changed = True
        return tree, fetched

    def _listed(self, store: Store) -> list[RemoteFile]:
        objects, sums = store.objects()
        refuse_unsafe((each.name for each in objects), names.OURS)
        scheme = self._uri.partition("://")[0].lower()
        files = []
        for each in objects:
            check = check_for(scheme, each.name, each.size, each.etag, sums)
            version = each.etag or each.modified
            identity = file_id(self._uri, each.name, each.size, version, check)
            files.append(RemoteFile(each.name, each.key, each.size, each.etag, check, identity))
        return sorted(files, key=lambda file: file.name)

    def _fetch(self, store: Store, files: list[RemoteFile]) -> int:
        self._remove_strangers(files)
        journal = Journal(self._staging / "journal")
        fetched, again = 0, set[str]()
        try:
            while True:
                journaled = journal.open()
                missing = [file for file in files if not self._has(file)]
                self._look_for_room(missing, journaled)
                transfer = Transfer(store, missing, self._staging, journal, journaled)
                watch = ProgressWatch(files, missing, journaled, self._tell, self._stopped, self._stall_timeout_sec)
                try:
                    transfer.run(watch.look)
                    fetched += transfer.progress.fetched
                    break
                except Damaged as damage:
                    fetched += transfer.progress.fetched
                    journal.forget(damage.file_id)
                    journal.close()
                    (self._staging / f"{damage.file_id}.part").unlink(missing_ok=True)
                    if not damage.resumed or damage.file_id in again:
                        raise
                    # What an earlier process left may have been hurt by the end of its machine: once more, each file.
                    again.add(damage.file_id)
                    self._tell("weights.fetched_again", reason=str(damage))
        finally:
            journal.close()
        if transfer.progress.unverified:
            shown = ", ".join(transfer.progress.unverified[:5])
            self._tell("weights.size_only", files=len(transfer.progress.unverified), first=shown)
        return fetched

    def _has(self, file: RemoteFile) -> bool:
        """Whether `file` is whole: on its way, or under its final name."""
        on_its_way = size_of(self._staging / f"{file.file_id}.whole") == file.size
        return on_its_way or is_published(file, self._target)

    def _look_for_room(self, missing: list[RemoteFile], journaled: dict[str, set[int]]) -> None:
        needed = SPARE_BYTES if missing else 0
        for file in missing:
            there = sum(end - start for start, end in map(file.span, journaled.get(file.file_id, ())))
            needed += max(0, file.size - there)
        status = os.statvfs(self._target)
        free = status.f_bavail * status.f_frsize
        if needed > free:
            raise WeightsError(
                f"The disk is too small: {self._target} has {free / 1e9:.2f} GB free, and the weights need "
                f"{needed / 1e9:.2f} GB more. Give it a larger volume."
            )

    def _remove_strangers(self, files: list[RemoteFile]) -> None:
        """Parts of other trees or versions: they are not waited for any more."""
        wanted = {f"{file.file_id}{suffix}" for file in files for suffix in (".part", ".whole")}
        for path in self._staging.iterdir():
            if path.name not in wanted | {"journal", NEXT, OLD}:
                path.unlink(missing_ok=True)

    def _remove_if_empty(self) -> None:
        """A fetch that got nothing to go on with leaves nothing behind."""
        journal = Journal(self._staging / "journal")
        try:
            parts = journal.open()
        finally:
            journal.close()
        if not parts and not any(path.suffix in (".whole", ".json") for path in self._staging.iterdir()):
            shutil.rmtree(self._staging, ignore_errors=True)
