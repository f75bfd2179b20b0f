"""Which files of the project travel to DataRobot, and archives of them that come out the same each time.

Both lists are allow-lists: what is not named here (`.env`, `.git`, caches, tests, virtual environments) never travels.
"""

import gzip
import hashlib
import json
import shlex
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from nimdrum.base.errors import BundleError
from nimdrum.base.files import replacing

PACKAGE = "nimdrum"
MODEL_FILES = ("custom.py", "custom_flask.py", "model-metadata.yaml", "start_server.sh")
OPTIONAL_MODEL_FILES = ("engine_config.json",)
"""No requirements.txt: in a model it makes DataRobot build another image on top of the environment's."""
CONTEXT_FILES = ("Dockerfile", ".dockerignore", "env_info.json")
"""Beside what the Dockerfile copies."""
TIMESTAMP = 315532800  # 1980-01-01: the oldest time that every archive format can hold


@dataclass(frozen=True)
class Packed:
    """One file of an archive: its path there, its content, and whether it may be run."""

    name: str
    content: bytes
    executable: bool = False


def model_files(root: Path) -> list[Packed]:
    """The files of the custom model. Raises BundleError when one is missing or is not a plain file."""
    optional = [name for name in OPTIONAL_MODEL_FILES if (root / name).exists()]
    return _read(root, {*MODEL_FILES, *optional, *_python_files(root, PACKAGE)})


def context_files(root: Path) -> list[Packed]:
    """The Docker build context: what the Dockerfile copies, and the Dockerfile itself. Raises BundleError."""
    names = set(CONTEXT_FILES)
    for source in copied(_read(root, {"Dockerfile"})[0].content.decode()):
        names |= _python_files(root, source) if (root / source).is_dir() else {source}
    return _read(root, names)


def copied(dockerfile: str) -> list[str]:
    """The paths that a Dockerfile's COPY lines take from the build context. Raises BundleError on what is not plain."""
    sources: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if line.split(" ")[0].upper() in ("COPY", "ADD") else []
        if any(word.startswith("--from") for word in words):
            continue
        paths = [word.rstrip("/") for word in words[1:-1] if not word.startswith("--")]
        if any(set("*?[$") & set(path) or ".." in path.split("/") for path in paths):
            raise BundleError(f"The Dockerfile's line {line!r} copies more than plain paths: name each file or folder.")
        sources += [path.removeprefix("./") for path in paths]
    return sources


def _python_files(root: Path, folder: str) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in (root / folder).rglob("*.py")
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)
    }


def _read(root: Path, names: Iterable[str]) -> list[Packed]:
    files = []
    for name in sorted(names):
        path = root / name
        if path.is_symlink() or not path.is_file():
            what = "is a link" if path.is_symlink() else "is missing"
            raise BundleError(f"{path} {what}: a bundle is made of plain files. Restore it from the project.")
        files.append(Packed(name, path.read_bytes(), executable=name.endswith(".sh")))
    return files


def fingerprint(files: Sequence[Packed], *also: object) -> str:
    """What tells whether content is the same, in 64 hex digits: made of names, modes and contents, not of archives."""
    listed = [[file.name, file.executable, hashlib.sha256(file.content).hexdigest()] for file in files]
    return hashlib.sha256(json.dumps([listed, *also], sort_keys=True).encode()).hexdigest()


def write_archive(path: Path, files: Sequence[Packed], tick: Callable[[int], object] = lambda done: None) -> None:
    """Put the files into a .tar.gz that depends on nothing but them. `tick` gets the bytes of each file."""
    with (
        replacing(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=TIMESTAMP) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for file in files:
            entry = tarfile.TarInfo(file.name)
            entry.size, entry.mtime, entry.mode = len(file.content), TIMESTAMP, 0o755 if file.executable else 0o644
            archive.addfile(entry, BytesIO(file.content))
            tick(entry.size)
