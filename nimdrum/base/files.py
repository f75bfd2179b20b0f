"""Files that a reader sees whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from nimdrum.base.errors import SettingsError

OURS = ".nimdrum-"
"""Beginning of the names of this project's own files in folders of others."""


def check_output(path: Path) -> None:
    """Raises SettingsError, and leaves nothing behind, when `path` is no file that can be written to."""
    try:
        if path.is_dir():
            raise SettingsError(f"The answers cannot be written to {path}: it is a folder; name a file in it.")
        new = not path.exists()
        if new or path.is_file():  # a pipe without a reader would wait here
            with path.open("ab"):  # what is in it stays, should there be no answers
                pass
        if new:
            path.resolve().unlink()
    except OSError as error:
        raise SettingsError(
            f"The answers cannot be written to {path} ({error.strerror}); make its folder, or name another file."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends well and is gone when it does not."""
    part = path.with_name(f"{OURS}{path.name}.{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what processes that were killed left of `replacing(path)`."""
    for part in path.parent.glob(f"{OURS}{escape(path.name)}.*"):
        pid = part.name.rpartition(".")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            part.unlink(missing_ok=True)


def replace_file(path: Path, text: str, *, mode: int = 0o600, sync: bool = False) -> None:
    """Write `text` so that a reader sees the old file or the new one, never half of it.

    With `sync` the disk has it when this returns. Raises OSError, and leaves the old file and nothing else then.
    """
    with replacing(path) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
