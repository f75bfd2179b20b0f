"""Who fetches into a folder that several processes, workers or containers share: one does, the others wait.

Assumed: the volume shows one file's content alike to all, within seconds (as NFS does for a file that is opened
again). The kernel's `flock` on the lock file ends with its process and reaches every process of one machine, and on
NFSv4 and most cluster file systems other machines too. Where it does not, the heartbeat in the same file tells that
somebody fetches: its number grows every few seconds, and a holder whose number stands still is gone. No clocks are
compared. Should two fetch all the same, both write the same bytes to the same places: it costs traffic, not the result.
"""

import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from nimdrum.weights.folder import FILE_MODE

BEAT_SEC = 5.0
STALE_SEC = 60.0
"""A holder on another machine whose number stood still for so long is gone. NFS may show it 30 s late."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NO_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Claim:
    """The right to fetch into one folder. `take` in a loop until it says True; then `release`, or just end."""

    def __init__(
        self,
        path: Path,
        *,
        boot_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        beat_sec: float = BEAT_SEC,
    ) -> None:
        self._path = path
        self._boot_id = _boot_id() if boot_id is None else boot_id
        self._clock = clock
        self._beat_sec = beat_sec
        self._id = uuid.uuid4().hex
        self._descriptor = -1
        self._mount = ""
        """Names this mount on this kernel: two FUSE mounts of one volume do not share locks."""
        self._seen: tuple[bytes, float] | None = None
        self._ended = threading.Event()
        self._beater: threading.Thread | None = None
        self.holder = ""
        """What the holder said last: host and process id."""

    def take(self) -> bool:
        """Whether this process may fetch now. Raises OSError when the lock file cannot be made."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            has_lock = _flock(descriptor)
            self._mount = f"{self._boot_id}:{os.fstat(descriptor).st_dev}"
            if has_lock is not False and self._is_free(os.pread(descriptor, 4096, 0), has_lock):
                self._descriptor = descriptor
                self._begin()
                return True
            self.holder = _say(os.pread(descriptor, 4096, 0))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return False

    def release(self) -> None:
        """Say that nobody fetches any more."""
        if self._descriptor < 0:
            return
        self._ended.set()
        if self._beater:
            self._beater.join(2 * self._beat_sec)
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def _is_free(self, said: bytes, has_lock: bool | None) -> bool:
        """Whether the holder that wrote `said` is gone. On our own kernel's mount the lock says so; else time does."""
        if not said.strip():
            return True
        if has_lock and _read(said).get("mount") == self._mount:
            return True
        if self._seen is None or self._seen[0] != said:
            self._seen = (said, self._clock())
            return False
        return self._clock() - self._seen[1] >= STALE_SEC

    def _begin(self) -> None:
        self._write(0)
        self._beater = threading.Thread(target=self._beat_forever, name="weights-heartbeat", daemon=True)
        self._beater.start()

    def _beat_forever(self) -> None:
        number = 0
        while not self._ended.wait(self._beat_sec):
            number += 1
            try:
                self._write(number)
            except OSError:
                return  # the volume is gone; the fetch itself will say so

    def _write(self, number: int) -> None:
        said = {"id": self._id, "mount": self._mount, "host": os.uname().nodename, "pid": os.getpid(), "beat": number}
        text = json.dumps(said).encode().ljust(512)
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))
        os.fsync(self._descriptor)


def _flock(descriptor: int) -> bool | None:
    """Take the kernel's lock: True when we have it, False when another has, None where this volume has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_FLOCK:
            return None
        raise
    return True


def _read(said: bytes) -> dict[str, object]:
    try:
        document = json.loads(said)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _say(said: bytes) -> str:
    holder = _read(said)
    return f"{holder.get('host', 'unknown')}:{holder.get('pid', '?')}"


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex  # of no kernel that anybody else knows
