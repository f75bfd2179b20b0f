"""The transfer's threads: what one of them meets ends all of them."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_nim.run import wait_for

from nimdrum.weights.checks import Check
from nimdrum.weights.parts import Journal, RemoteFile
from nimdrum.weights.transfer import Damaged, Transfer

WRONG = Check("sha256", "0" * 64)


class OneByte:
    """A store whose object is the wrong one."""

    def read(self, each: RemoteFile, start: int, end: int) -> Iterator[bytes]:
        yield b"x"

    def etag_is_md5(self, each: RemoteFile) -> bool:
        return True


def test_the_first_error_ends_all_threads(tmp_path: Path) -> None:
    """A damaged file while a large one, all of it on disk already, is still being hashed."""
    large = RemoteFile("large", "large", 1 << 36, None, WRONG, "large")
    small = RemoteFile("small", "small", 1, None, WRONG, "small")
    (tmp_path / "large.part").touch()
    os.truncate(tmp_path / "large.part", large.size)  # takes no room on the disk
    journal = Journal(tmp_path / "journal")
    journal.open()
    before = set(threading.enumerate())
    transfer = Transfer(OneByte(), [large, small], tmp_path, journal, {"large": set(range(large.parts))})
    with pytest.raises(Damaged, match="'small' is damaged"):
        transfer.run(lambda progress: None)
    wait_for(lambda: set(threading.enumerate()) <= before)  # a slow disk may take longer than `run` waits
    assert transfer.progress.moved < large.size
    journal.close()
