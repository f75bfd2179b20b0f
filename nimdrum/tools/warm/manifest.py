"""A folder of weights: what lies in it, whether it is whole, and its SHA256SUMS file.

NIM's tools say too little with their exit codes.
"""

import hashlib
import json
import os
import re
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from nimdrum.base.errors import WeightsError
from nimdrum.base.files import OURS, replace_file

SUMS = "SHA256SUMS"
UNFINISHED = (".incomplete", ".part", ".partial", ".aria2", ".crdownload")
LONGEST_HEADER = 100_000_000  # the safetensors format's own limit
SHOWN_PROBLEMS = 5

Snapshot = dict[str, tuple[int, int]]


def weight_files(folder: Path) -> Iterator[str]:
    """Relative paths of the files (and links to files) below `folder` that belong to the weights, sorted.

    Lock files and this project's own are not among them; links to folders are not followed. Raises OSError.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a folder may go while a tool works
            raise error

    names = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        relative = Path(parent).relative_to(folder)
        folders[:] = [
            name for name in folders if name != ".locks" and not (relative == Path() and name.startswith(OURS))
        ]
        for name in files:
            ours = relative == Path() and (name == SUMS or name.startswith(OURS))
            if not ours and not name.endswith(".lock"):
                names.append(str(relative / name))
    yield from sorted(names, key=os.fsencode)


def snapshot(folder: Path) -> Snapshot:
    """Size and time of change of each file (not of links), to tell later what was written. Raises OSError."""
    if not folder.is_dir():
        return {}
    found = {}
    for name in weight_files(folder):
        try:
            status = (folder / name).lstat()
        except FileNotFoundError:
            continue  # it went while a tool works
        if stat.S_ISREG(status.st_mode):
            found[name] = (status.st_size, status.st_mtime_ns)
    return found


def problems(folder: Path) -> list[str]:
    """What is not whole below `folder`: unfinished files, links to nothing, safetensors that are cut or missing."""
    found = []
    for name in weight_files(folder):
        path = folder / name
        if name.endswith(UNFINISHED):
            found.append(f"{name} is an unfinished download")
        elif not path.exists():
            found.append(f"{name} is a link to nothing")
        elif name.endswith(".safetensors"):
            found += _of_safetensors(path, name)
        elif name.endswith(".safetensors.index.json"):
            found += _of_index(path, name)
    return found


def refuse_incomplete(folder: Path) -> None:
    """Raise WeightsError when something below `folder` is not whole."""
    if found := problems(folder):
        more = f", and {len(found) - SHOWN_PROBLEMS} more" if len(found) > SHOWN_PROBLEMS else ""
        raise WeightsError(
            f"What lies in {folder} is not whole: {'; '.join(found[:SHOWN_PROBLEMS])}{more}. Run the command again; if "
            "that does not help, remove the files that it names."
        )


def _of_safetensors(path: Path, name: str) -> list[str]:
    """Format: eight bytes with the header's length, a JSON header with each tensor's place, the data."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, LONGEST_HEADER):
                raise ValueError
            header = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error):
        return [f"{name} is no readable safetensors file"]
    wanted = 8 + length + end
    return [] if size == wanted else [f"{name} has {size} bytes, and its header says {wanted}"]


def _of_index(path: Path, name: str) -> list[str]:
    try:
        shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(shard for shard in shards if not (path.parent / shard).exists())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return [f"{name} is no readable index"]
    return [f"{name} names {shard}, which is not there" for shard in missing]


BLOCK = 4 * 1024 * 1024
MOST_THREADS = 8
UNUSABLE = re.compile(r"[\x00-\x1f\x7f\\]|[\ud800-\udfff]")


def write_sums(folder: Path, on_start: Callable[[int], None], on_bytes: Callable[[int], object]) -> int:
    """Write `folder`/SHA256SUMS and return the number of files in it.

    Paths are relative and sorted. Links are listed like files, but each file is read once. `on_start` gets the
    number of bytes to read, `on_bytes` what was read since (from several threads, one at a time). The file appears
    whole or not at all. Raises WeightsError and OSError.
    """
    names = list(weight_files(folder))
    if not names:
        raise WeightsError(f"There are no files in {folder}, so there is nothing to list. Check the folder's name.")
    if bad := next((name for name in names if UNUSABLE.search(name)), None):
        raise WeightsError(f"The file name {bad!r} cannot stand in a {SUMS} file. Rename it.")
    real = {name: (folder / name).resolve(strict=True) for name in names}
    unique = sorted(set(real.values()))
    on_start(sum(path.stat().st_size for path in unique))
    sums = _hash_all(unique, on_bytes)
    text = "".join(f"{sums[real[name]]}  {name}\n" for name in names)
    replace_file(folder / SUMS, text, mode=0o644, sync=True)
    return len(names)


def _hash_all(paths: Sequence[Path], on_bytes: Callable[[int], object]) -> dict[Path, str]:
    stop, lock = threading.Event(), threading.Lock()

    def digest(path: Path) -> str:
        whole = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while (block := file.read(BLOCK)) and not stop.is_set():
                whole.update(block)  # other threads run meanwhile
                with lock:
                    on_bytes(len(block))
        return whole.hexdigest()

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "sha256") as pool:
        try:
            futures = [pool.submit(digest, path) for path in paths]
            wait(futures, return_when=FIRST_EXCEPTION)
            return {path: future.result() for path, future in zip(paths, futures, strict=True)}
        finally:
            stop.set()  # after an error or Ctrl-C nobody needs the rest
            pool.shutdown(cancel_futures=True)
