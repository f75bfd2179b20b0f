"""`python -m nimdrum bundle`: from a clean clone, and with an image that a real tool holds."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from nimdrum.base.errors import BundleError
from nimdrum.tools.upload.bundle import write_bundle
from nimdrum.tools.upload.saved_image import find_image, save_image

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_SEC = 100.0
NEVER = (
    ".env",
    ".git/config",
    "tests/custom.py",
    ".venv/lib/x.py",
    "nimdrum/__pycache__/x.py",
    "nimdrum/.env",
    "nimdrum/key.pem",
)
CONTEXT = set(
    "Dockerfile .dockerignore env_info.json requirements.txt requirements/build.txt start_server.sh LICENSE README.md model-metadata.yaml "
    "pyproject.toml".split()
)


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's tracked files in a new folder, as a clone has them, with files beside them that must not travel.

    Not below tmp_path: what is there is searched for keys, and the tests' own files hold some.
    """
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: nobody can tell which files belong to the project")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    root = tmp_path_factory.mktemp("clone")
    for name in listed.split("\0"):
        if name and (REPOSITORY / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, root / name)
    for name in NEVER:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("SECRET=1\n")
    return root


def nimdrum(root: Path, environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nimdrum", *arguments],
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SEC,
    )


def members(path: Path) -> dict[str, int]:
    with tarfile.open(path) as archive:
        assert all(entry.isfile() for entry in archive)
        return {entry.name: entry.mode for entry in archive}


def test_a_bundle_from_a_clean_clone(clone: Path, clean_environ: dict[str, str]) -> None:
    """Exactly the allow-lists, the start script executable, checksums that check, the same bytes the second time."""
    environ = {**clean_environ, "PYTHONDONTWRITEBYTECODE": "1"}
    first = nimdrum(clone, environ, "bundle")
    assert (first.returncode, first.stderr) == (0, "")
    out = clone / "build" / "bundle"
    endings = {".py", ".html", ".css", ".js", ".json"}
    package = (path for path in clone.glob("nimdrum/**/*") if path.suffix in endings)
    modules = {path.relative_to(clone).as_posix() for path in package if "__pycache__" not in path.parts}
    model, context = members(out / "model.tar.gz"), members(out / "context.tar.gz")
    assert set(model) == {"model-metadata.yaml"}
    assert set(context) == CONTEXT | modules
    assert {name for name, mode in {**model, **context}.items() if mode & 0o111} == {"start_server.sh"}
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=out, check=True, capture_output=True)
    assert hashlib.sha256((out / "model.tar.gz").read_bytes()).hexdigest() in first.stdout
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(before) == {"model.tar.gz", "context.tar.gz", "SHA256SUMS"}
    assert nimdrum(clone, environ, "bundle").returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_bundle_of_a_users_model(clone: Path, clean_environ: dict[str, str], tmp_path: Path) -> None:
    """All of their files but hidden ones and caches, their YAML and not ours; without one, ours beside theirs."""
    model = tmp_path / "my-model"
    for name in ("custom.py", "helpers/a.py", "helpers/__pycache__/a.pyc", "data/rows.csv", ".env", ".git/config"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("x = 1\n")
    environ = {**clean_environ, "PYTHONDONTWRITEBYTECODE": "1"}
    theirs = {"custom.py", "helpers/a.py", "data/rows.csv"}
    assert nimdrum(clone, environ, "bundle", "--model-dir", str(model)).returncode == 0
    archive = clone / "build" / "bundle" / "model.tar.gz"
    assert set(members(archive)) == theirs | {"model-metadata.yaml"}
    (model / "model-metadata.yaml").write_text("name: mine\n")
    assert nimdrum(clone, environ, "bundle", "--model-dir", str(model)).returncode == 0
    with tarfile.open(archive) as packed:
        sent = packed.extractfile("model-metadata.yaml")
        assert sent is not None
        assert sent.read() == b"name: mine\n"


def test_an_upload_plan_from_a_clean_clone(clone: Path, clean_environ: dict[str, str]) -> None:
    """Without a bundle, a token or a network."""
    environ = {**clean_environ, "HOME": str(clone), "PYTHONDONTWRITEBYTECODE": "1"}
    done = nimdrum(clone, environ, "upload", "--build", "--deploy", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "12. wait for the deployment" in done.stdout


def test_no_image_of_that_name(clone: Path, clean_environ: dict[str, str], tmp_path: Path) -> None:
    """Says what each tool said, with exit code 1, and leaves no file behind."""
    done = nimdrum(clone, {**clean_environ, "PATH": str(tmp_path)}, "bundle", "--image", "nosuch:image")
    assert done.returncode == 1
    assert "No image 'nosuch:image' was found" in done.stderr
    assert "buildah: not on PATH" in done.stderr
    assert not (clone / "build").exists()


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image store of podman and buildah that is not the machine's own."""
    config = tmp_path / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n', encoding="utf-8"
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(config))
    return tmp_path


def only(tool: str) -> object:
    return lambda name: shutil.which(name) if name == tool else None


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_an_image_is_saved(storage: Path, tool: str) -> None:
    """By a real tool: the archive holds the image's files and its name; its checksum is that of the file."""
    if shutil.which("podman") is None or shutil.which(tool) is None:
        pytest.skip(f"needs podman (to make an image) and {tool}")
    layer = storage / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        archive.addfile(tarfile.TarInfo("marker"), io.BytesIO())
    subprocess.run(["podman", "import", "--quiet", layer, "localhost/tiny:1"], check=True, capture_output=True)
    image = find_image("localhost/tiny:1", only(tool))  # type: ignore[arg-type]
    assert (image.tool, image.architecture) == (tool, "amd64")
    ticks: list[int] = []
    digest = save_image(image, storage / "image.tar.gz", ticks.append)
    raw = (storage / "image.tar.gz").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == digest
    assert sum(ticks) == len(gzip.decompress(raw))
    with tarfile.open(storage / "image.tar.gz") as saved:
        manifest = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest[0]["RepoTags"] == ["localhost/tiny:1"]
    assert image.id.removeprefix("sha256:") in manifest[0]["Config"]
    assert not list(storage.glob(".image*"))


DOCKER = """#!/bin/sh
# Speaks as docker does, for one image.
case "$1 $2" in
    "image inspect") [ "$5" = tiny ] && cat "$HERE/facts" || { echo "Error: No such image: $5" >&2; exit 1; } ;;
    "save tiny") printf 'content of '; cat "$HERE/facts"; exit "$(cat "$HERE/code")" ;;
    *) exit 9 ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a docker that has an image `tiny`; there is no daemon for a real one here."""
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    (folder / "facts").write_text("sha256:1234 amd64 42\n")
    (folder / "code").write_text("0")
    monkeypatch.setenv("HERE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def silent(title: str, total: int | None) -> object:
    return lambda done: None


def test_the_same_image_is_saved_once(docker: Path, tmp_path: Path) -> None:
    """A second bundle keeps it, also without --image; another image replaces it; a damaged file is written anew."""
    out = tmp_path / "out"

    def bundle(name: str | None = "tiny") -> dict[str, str]:
        files = write_bundle(REPOSITORY, out, name, silent)  # type: ignore[arg-type]
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=out, check=True, capture_output=True)
        return {path.name: digest for path, digest in files}

    first = bundle()
    assert gzip.decompress((out / "image.tar.gz").read_bytes()) == b"content of sha256:1234 amd64 42\n"
    (docker / "code").write_text("1")  # a save would fail now
    assert bundle() == bundle(None) == first
    (docker / "code").write_text("0")
    (out / "image.tar.gz").write_bytes(b"damaged")
    assert "image.tar.gz" not in bundle(None)
    assert bundle() == first
    (docker / "facts").write_text("sha256:5678 amd64 42\n")
    assert bundle()["image.tar.gz"] != first["image.tar.gz"]


def test_a_failed_save_leaves_the_old_image(docker: Path, tmp_path: Path) -> None:
    """And no half-written file; the tool's own words are told."""
    (tmp_path / "image.tar.gz").write_text("old")
    image = find_image("tiny")
    (docker / "code").write_text("7")
    with pytest.raises(BundleError, match="exit code 7"):
        save_image(image, tmp_path / "image.tar.gz")
    assert (tmp_path / "image.tar.gz").read_text() == "old"
    assert not list(tmp_path.glob(".image*"))


def test_a_name_cannot_be_an_option() -> None:
    """It stands on the tools' command lines."""
    with pytest.raises(BundleError, match="not the name"):
        find_image("--help")
