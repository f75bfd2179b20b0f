"""The folder that weights are fetched into: whether it is whole, and the files of ours in it."""

import errno
import json
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nimdrum.base.errors import WeightsError
from nimdrum.weights.checks import refuse_unsafe

STAGING = ".nimdrum-fetch"
"""Folder with what is on its way; removed when the tree is whole."""
LOCK = ".nimdrum-fetch.lock"
"""Who fetches; stays, empty when nobody does."""
MARKER = ".nimdrum-weights.json"
"""What was fetched, written last: where it is, the tree is whole."""
OURS = (STAGING, LOCK, MARKER)
NO_WEIGHTS = (*OURS, "lost+found")
"""What may lie in a folder without weights; the last is at the top of each new ext4 volume."""
FILE_MODE = 0o660
UMASK = 0o007
"""Files and folders are for the container's user and group 0, and nobody else."""


class Content(str, Enum):
    """What a folder for weights holds."""

    EMPTY = "empty"
    """Nothing, or it is not there."""
    HALF = "half"
    """A fetch began and did not end."""
    FETCHED = "fetched"
    """A whole tree that was fetched."""
    FILLED = "filled"
    """Files that somebody else put there."""


@dataclass(frozen=True)
class Tree:
    """A fetched tree: where it came from, and each file's size and id (see `parts.file_id`)."""

    uri: str
    files: dict[str, tuple[int, str]]

    def is_whole_in(self, folder: Path) -> bool:
        """Whether every file is there with its size."""
        return all(size_of(folder / name) == size for name, (size, _) in self.files.items())


def content(folder: Path) -> Content:
    """What `folder` holds. Raises nothing: what cannot be read counts as empty."""
    try:
        names = set(os.listdir(folder))  # noqa: PTH208 - names are what is wanted
    except OSError:
        return Content.EMPTY
    if MARKER in names:
        return Content.FETCHED
    if STAGING in names:
        return Content.HALF
    return Content.FILLED if names - set(NO_WEIGHTS) else Content.EMPTY


def read_tree(path: Path) -> Tree | None:
    """The tree that the marker file `path` describes, or None."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): (int(size), str(file_id)) for name, (size, file_id) in document["files"].items()}
        refuse_unsafe(files, OURS)  # files of an earlier tree are removed by their names
        return Tree(str(document["uri"]), files)
    except (WeightsError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def disk_error(error: BaseException, folder: Path) -> BaseException:
    """An error of the file system as a sentence about `folder`; every other one as it is."""
    if not isinstance(error, OSError):
        return error
    parent = folder.parent if folder.name == STAGING else folder
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WeightsError(f"The disk is full: {parent} has no room left. Give it a larger volume.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return WeightsError(
            f"The folder {parent} cannot be written by uid {os.getuid()}, gid {os.getgid()}: {error.strerror}. "
            "Mount it writable for group 0."
        )
    return WeightsError(f"The folder {parent} cannot be used: {error.strerror or error}.")


def tree_json(tree: Tree) -> str:
    return json.dumps({"uri": tree.uri, "files": tree.files}, indent=1)


def size_of(path: Path) -> int | None:
    """Bytes of the file `path`; None when there is no regular file."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
