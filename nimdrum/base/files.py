"""Files that a reader sees whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OURS = ".nimdrum-"
"""Beginning of the names of this project's own files in folders of others."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends well and is gone when it does not."""
    part = path.with_name(f"{OURS}{path.name}.{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
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
