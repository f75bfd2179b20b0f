"""A container image as one compressed file: found and saved with docker, podman or buildah, whichever has it."""

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from nimdrum.base.errors import BundleError
from nimdrum.base.files import replacing

TOOLS = ("docker", "podman", "buildah")
ARCHITECTURE = "amd64"  # of DataRobot's own machines
INSPECT_SEC = 60.0
CHUNK = 1 << 20
TIMESTAMP = 315532800  # 1980-01-01: the oldest time that every archive format can hold
LAST_CHARACTERS = 600


@dataclass(frozen=True)
class Image:
    """An image that a tool has. `size` is that of its content in bytes, where the tool tells."""

    tool: str
    name: str
    id: str
    architecture: str
    size: int | None


def find_image(name: str, which: Callable[[str], str | None] = shutil.which) -> Image:
    """The image by its name or id. Raises BundleError that tells what each tool said."""
    if name.startswith("-"):
        raise BundleError(f"{name!r} is not the name of an image.")
    said = []
    for tool in TOOLS:
        if which(tool) is None:
            said.append(f"{tool}: not on PATH")
            continue
        try:
            answer = subprocess.run(_inspect(tool, name), capture_output=True, text=True, timeout=INSPECT_SEC)
        except (OSError, subprocess.TimeoutExpired) as error:
            said.append(f"{tool}: {error}")
            continue
        words = answer.stdout.split()
        if answer.returncode == 0 and len(words) >= 2:
            return Image(tool, name, words[0], words[1], int(words[2]) if len(words) > 2 else None)
        said.append(f"{tool}: {(answer.stderr.strip().splitlines() or ['no answer'])[-1][:LAST_CHARACTERS]}")
    listed = "\n  ".join(said)
    raise BundleError(f"No image {name!r} was found. Build it first, or give another name.\n  {listed}")


def save_image(image: Image, path: Path, tick: Callable[[int], object] = lambda done: None) -> str:
    """Save the image, compressed, and return the file's SHA-256. `tick` gets bytes before compression.

    Compressed fast rather than small: an image is tens of gigabytes, and most of it weights. Raises BundleError.
    """
    digest = hashlib.sha256()
    with (
        replacing(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 1, _Hashing(raw, digest.update), mtime=TIMESTAMP) as packed,
        _content(image, path.parent) as content,
    ):
        while chunk := content.read(CHUNK):
            packed.write(chunk)
            tick(len(chunk))
    return digest.hexdigest()


@contextmanager
def _content(image: Image, scratch: Path) -> Iterator[IO[bytes]]:
    """The image as a tar stream in Docker's format, which all three tools write. Raises BundleError."""
    if image.tool == "buildah":  # it writes to files only
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".image.") as folder:
            archive = Path(folder, "image.tar")
            command = ["buildah", "push", "--quiet", image.name, f"docker-archive:{archive}:{image.name}"]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            _check(image, done.returncode, done.stderr)
            with archive.open("rb") as written:
                yield written
        return
    command = [image.tool, "save", *(["--format", "docker-archive"] if image.tool == "podman" else []), image.name]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            yield cast("IO[bytes]", process.stdout)
        except BaseException:
            process.kill()
            raise
        returncode = process.wait()
        errors.seek(0)
        _check(image, returncode, errors.read())


def _check(image: Image, returncode: int, errors: bytes) -> None:
    if returncode != 0:
        last = errors[-LAST_CHARACTERS:].decode(errors="replace").strip()
        raise BundleError(f"{image.tool} could not save {image.name!r} (exit code {returncode}): {last}")


def _inspect(tool: str, name: str) -> list[str]:
    if tool == "buildah":
        return ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}} {{.OCIv1.Architecture}}", name]
    return [tool, "image", "inspect", "--format", "{{.Id}} {{.Architecture}} {{.Size}}", name]


@dataclass(frozen=True)
class _Hashing:
    """A file to write to, whose bytes are also hashed."""

    file: IO[bytes]
    update: Callable[[bytes], None]

    def write(self, data: bytes) -> int:
        self.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
