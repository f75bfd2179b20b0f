"""The bundle: what is uploaded to DataRobot, as files, with their checksums.

context.tar.gz   the Docker build context of the environment
model.tar.gz     the files of the custom model
image.tar.gz     the built image, where one was named; image.json tells which
SHA256SUMS       for `sha256sum --check`
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from nimdrum.base.files import replacing
from nimdrum.platform.archive import context_files, model_files, write_archive
from nimdrum.platform.image import CHUNK, Image, find_image, save_image

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


def write_bundle(root: Path, out: Path, image_name: str | None, begin: Progress) -> list[tuple[Path, str]]:
    """Write the bundle into the folder `out` and return its files with their SHA-256. Raises BundleError.

    Each file is replaced only when its successor is complete. An image of an earlier call stays; the same image is
    not saved again.
    """
    image = find_image(image_name) if image_name else None
    packages = {CONTEXT: context_files(root), MODEL: model_files(root)}
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
