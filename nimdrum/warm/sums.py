"""The manifest of a folder of weights: a SHA256SUMS file, as `sha256sum -c` and `model_artifacts_uri` read it."""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from nimdrum.base.errors import WeightsError
from nimdrum.warm.tree import SUMS, weight_files

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
    temporary = folder / f".nimdrum-{SUMS}.{os.getpid()}"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(f"{sums[real[name]]}  {name}\n" for name in names)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / SUMS)
    finally:
        temporary.unlink(missing_ok=True)
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
