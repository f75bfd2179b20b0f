"""Final names for a whole tree: its files come out of the staging folder, an earlier tree's go, the marker comes last.

A publication that is killed at any moment leaves the folder half (no marker), and the next one ends it: what lies under
final names is written down in the staging folder before anything changes.
"""

import contextlib
import os
import shutil
from pathlib import Path

from nimdrum.base.errors import WeightsError
from nimdrum.base.files import replace_file
from nimdrum.weights.folder import FILE_MODE, MARKER, STAGING, Tree, read_tree, size_of, tree_json
from nimdrum.weights.parts import RemoteFile

NEXT = "next.json"
"""The tree that is being published."""
OLD = "old.json"
"""The marker of the tree that it takes the place of."""


def is_published(file: RemoteFile, target: Path) -> bool:
    """Whether `file` lies whole under its final name, by this or an earlier fetch. The newest that names it decides."""
    for marker in (target / STAGING / NEXT, target / STAGING / OLD, target / MARKER):
        tree = read_tree(marker)
        if tree is not None and file.name in tree.files:
            return tree.files[file.name] == (file.size, file.file_id) and size_of(target / file.name) == file.size
    return False


def publish(tree: Tree, target: Path) -> None:
    """Give all files of `tree` their final names. Raises WeightsError and OSError."""
    staging, marker = target / STAGING, target / MARKER
    if marker.exists():
        marker.replace(staging / OLD)
    for earlier in (read_tree(staging / OLD), read_tree(staging / NEXT)):
        for name in earlier.files.keys() - tree.files.keys() if earlier else ():
            _remove(target / name, target)
    replace_file(staging / NEXT, tree_json(tree), mode=FILE_MODE, sync=True)
    folders = {target}
    for name, (_, identity) in sorted(tree.files.items()):
        whole = staging / f"{identity}.whole"
        if whole.exists():
            final = target / name
            make_folder(final.parent, target)
            whole.rename(final)
            folders.add(final.parent)
    for each in folders:
        _sync_folder(each)
    (staging / NEXT).rename(marker)
    _sync_folder(target)
    shutil.rmtree(staging, ignore_errors=True)


def make_folder(folder: Path, target: Path) -> None:
    """Make `folder`, which is `target` or below it. Raises WeightsError when a link could lead out of `target`."""
    _below(folder, target)
    folder.mkdir(parents=True, exist_ok=True)


def _remove(path: Path, target: Path) -> None:
    """Remove a file of an earlier tree, and the folders that it leaves empty."""
    folders = _below(path.parent, target)
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _below(folder: Path, target: Path) -> list[Path]:
    """`folder` and the folders around it below `target`. Raises WeightsError when one of them is a link."""
    below = [each for each in (folder, *folder.parents) if target in each.parents]
    if link := next((each for each in below if each.is_symlink()), None):
        raise WeightsError(f"{link} is a link, and could lead out of {target}. Remove it.")
    return below


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems have no fsync for folders
    finally:
        os.close(descriptor)
