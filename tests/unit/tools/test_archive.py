"""What travels to DataRobot: the lists of files, and archives that come out the same each time."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.errors import BundleError
from nimdrum.base.files import replacing
from nimdrum.tools.upload.bundle import Packed, context_files, copied, fingerprint, model_files, write_archive

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_model_is_the_list_of_parameters() -> None:
    """And nothing else: the hooks are in the image."""
    (file,) = model_files(None)
    assert file == Packed("model-metadata.yaml", (REPOSITORY / "model-metadata.yaml").read_bytes())


def test_the_context_is_what_the_dockerfile_copies() -> None:
    """Each source of a COPY line is there, and beside them only the Dockerfile and what describes the environment."""
    names = {file.name for file in context_files(REPOSITORY)}
    sources = copied((REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
    assert sources
    for source in sources:
        assert any(name == source or name.startswith(f"{source}/") for name in names), source
        names -= {name for name in names if name == source or name.startswith(f"{source}/")}
    assert names == {"Dockerfile", ".dockerignore", "env_info.json"}


def test_the_whole_package_travels() -> None:
    """Each file of it that belongs to the project, the pages for a browser too."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: nobody can tell which files belong to the project")
    listed = subprocess.run(["git", "ls-files", "nimdrum"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert listed.stdout
    assert set(listed.stdout.split()) <= {file.name for file in context_files(REPOSITORY)}


@pytest.mark.parametrize(
    ("dockerfile", "sources"),
    [
        ("COPY a.py b.txt ./", ["a.py", "b.txt"]),
        ("COPY --chown=1000:0 ./pkg/ ./pkg", ["pkg"]),
        ("COPY a \\\n    b /x/", ["a", "b"]),
        ("COPY --from=build /x /y", []),
        ("# COPY a b\nRUN cp COPY x", []),
        ("ADD a /x", ["a"]),
    ],
)
def test_copied(dockerfile: str, sources: list[str]) -> None:
    """The sources of COPY and ADD, without options, destinations and other stages."""
    assert copied(dockerfile) == sources


@pytest.mark.parametrize("line", ["COPY *.py /x/", "COPY $FILES /x/", "COPY ../secret /x/"])
def test_copied_refuses_what_it_cannot_list(line: str) -> None:
    """Better no bundle than one that is not what the Dockerfile builds."""
    with pytest.raises(BundleError, match="name each file"):
        copied(line)


def test_the_model_of_a_user(tmp_path: Path) -> None:
    """All that is not hidden and no cache, with the project's list where theirs is missing; no link, which could lead
    anywhere on this machine."""
    for name in ("custom.py", "requirements.txt", "a/b.bin", "__pycache__/old.py", ".cache/hidden.py", "a/.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    names = [file.name for file in model_files(tmp_path)]
    assert names == ["a/b.bin", "custom.py", "model-metadata.yaml", "requirements.txt"]
    (tmp_path / "model-metadata.yaml").write_text("name: mine")
    assert Packed("model-metadata.yaml", b"name: mine") in model_files(tmp_path)
    (tmp_path / "a" / "host").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match=r"a/host is a link"):
        model_files(tmp_path)


FILES = st.lists(
    st.builds(
        Packed, st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?\.py", fullmatch=True), st.binary(max_size=50), st.booleans()
    ),
    max_size=5,
    unique_by=lambda file: file.name,
)


@given(FILES, FILES)
def test_fingerprints_tell_files_apart(some: list[Packed], others: list[Packed]) -> None:
    """Equal for equal files, different for any other name, content, mode, or further fact."""
    assert (fingerprint(some) == fingerprint(others)) == (some == others)
    assert fingerprint(some) != fingerprint(some, "further")


def test_an_archive_depends_on_nothing_but_its_files(tmp_path: Path) -> None:
    """Two of them, made at different times under different names, are equal byte for byte; owners and times are fixed."""
    files = [Packed("a.sh", b"run", True), Packed("b/c.py", b"text")]
    ticks: list[int] = []
    write_archive(tmp_path / "one.tar.gz", files, ticks.append)
    os.utime(tmp_path / "one.tar.gz", (1, 1))
    write_archive(tmp_path / "two.tar.gz", files)
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    assert ticks == [3, 4]
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        entries = [(e.name, oct(e.mode), e.uid, e.gid, e.uname, e.mtime) for e in archive]
    assert entries == [("a.sh", "0o755", 0, 0, "", 315532800), ("b/c.py", "0o644", 0, 0, "", 315532800)]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """While the new one is written, and when that fails, the old one is there; nothing else is left."""
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(OSError, match="disk"), replacing(target) as part:
        part.write_text("half")
        assert target.read_text() == "old"
        raise OSError("disk")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"
    with replacing(target) as part:
        part.write_text("new")
    assert target.read_text() == "new"
