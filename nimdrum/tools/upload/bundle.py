"""What travels to DataRobot, and the bundle: the same as files, with their checksums.

Of the project nothing travels but what is named here (no `.env`, `.git`, caches, tests, virtual environments); of a
user's model everything that is not hidden. Archives of the same sources come out the same each time.

context.tar.gz   the Docker build context of the environment
model.tar.gz     the files of the custom model
image.tar.gz     the built image, where one was named; image.json tells which
SHA256SUMS       for `sha256sum --check`
"""

import gzip
import hashlib
import json
import shlex
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from nimdrum.base.errors import BundleError
from nimdrum.base.files import replacing
from nimdrum.base.parameters import METADATA_FILE, own_list
from nimdrum.tools.upload.saved_image import CHUNK, TIMESTAMP, Image, find_image, save_image

CONTEXT_FILES = ("Dockerfile", ".dockerignore", "env_info.json")
"""Beside what the Dockerfile copies."""
SOURCES = (".py", ".html", ".css", ".js", ".json")
"""What of a folder travels: nothing that somebody put beside the project's own files."""


@dataclass(frozen=True)
class Packed:
    """One file of an archive: its path there, its content, and whether it may be run."""

    name: str
    content: bytes
    executable: bool = False


def model_files(model_dir: Path | None) -> list[Packed]:
    """The files of the custom model: the user's, and the project's list of parameters where they have none.

    Raises BundleError when one is not a plain file.
    """
    files = [] if model_dir is None else _read(model_dir, _visible(model_dir))
    if METADATA_FILE not in {file.name for file in files}:
        files = sorted([*files, *_read(own_list().parent, [METADATA_FILE])], key=lambda file: file.name)
    return files


def context_files(root: Path) -> list[Packed]:
    """The Docker build context: what the Dockerfile copies, and the Dockerfile itself. Raises BundleError."""
    names = set(CONTEXT_FILES)
    for source in copied(_read(root, {"Dockerfile"})[0].content.decode()):
        names |= {f"{source}/{n}" for n in _visible(root / source, SOURCES)} if (root / source).is_dir() else {source}
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


def _visible(folder: Path, endings: tuple[str, ...] = ("",)) -> set[str]:
    found = {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.name.endswith(endings) and (path.is_symlink() or not path.is_dir())
    }
    return {
        path.as_posix() for path in found if not any(part[0] == "." or part == "__pycache__" for part in path.parts)
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


CONTEXT, MODEL, IMAGE, IMAGE_FACTS, SUMS = "context.tar.gz", "model.tar.gz", "image.tar.gz", "image.json", "SHA256SUMS"

Progress = Callable[[str, int | None], Callable[[int], object]]
"""Begins a progress bar with a title and a total in bytes (None: unknown), and gives the function that moves it."""


@dataclass(frozen=True)
class SavedImage:
    """What image.json says of the image.tar.gz beside it."""

    name: str
    id: str
    architecture: str
    size: int
    mtime_ns: int
    sha256: str


def write_bundle(
    root: Path, out: Path, image_name: str | None, begin: Progress, model_dir: Path | None = None
) -> list[tuple[Path, str]]:
    """Write the bundle into the folder `out` and return its files with their SHA-256. Raises BundleError.

    Each file is replaced only when its successor is complete. An image of an earlier call stays; the same image is
    not saved again.
    """
    image = find_image(image_name) if image_name else None
    packages = {CONTEXT: context_files(root), MODEL: model_files(model_dir)}
    out.mkdir(parents=True, exist_ok=True)
    sums = []
    for name, files in packages.items():
        write_archive(out / name, files, begin(name, sum(len(file.content) for file in files)))
        sums.append((out / name, sha256_of(out / name)))
    saved = read_saved_image(out / IMAGE)
    if image is not None and (saved is None or saved.id != image.id):
        saved = _save(image, out / IMAGE, begin)
    if saved is not None:
        sums.append((out / IMAGE, saved.sha256))
    with replacing(out / SUMS) as part:
        part.write_text("".join(f"{digest}  {path.name}\n" for path, digest in sums), encoding="utf-8")
    return sums


def read_saved_image(path: Path) -> SavedImage | None:
    """What is known of a saved image; None where nothing is, or where the file is no longer the one that was saved."""
    try:
        saved = SavedImage(**json.loads((path.parent / IMAGE_FACTS).read_text(encoding="utf-8")))
        facts = path.stat()
    except (OSError, ValueError, TypeError):
        return None
    return saved if (path.name, saved.size, saved.mtime_ns) == (IMAGE, facts.st_size, facts.st_mtime_ns) else None


def sha256_of(path: Path, tick: Callable[[int], object] = lambda done: None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            tick(len(chunk))
    return digest.hexdigest()


def _save(image: Image, path: Path, begin: Progress) -> SavedImage:
    digest = save_image(image, path, begin(path.name, image.size))
    facts = path.stat()
    saved = SavedImage(image.name, image.id, image.architecture, facts.st_size, facts.st_mtime_ns, digest)
    with replacing(path.parent / IMAGE_FACTS) as part:
        part.write_text(json.dumps(asdict(saved), indent=1) + "\n", encoding="utf-8")
    return saved
