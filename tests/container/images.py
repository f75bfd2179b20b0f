"""The images under test, built once a session, and the place to run them in.

CONTAINER_TEST_FOLDER=folder keeps the base system and the layers there, so that the next session is much shorter.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bases import Interpreter, find_python, find_ubuntu, nim_base, other_suite
from sandbox import INSIDE, Sandbox, missing

REPOSITORY = Path(__file__).resolve().parents[2]
LINES = ("1.x", "2.x")


@dataclass(frozen=True)
class Image:
    """Our image on a stand-in base: the names of both, and the line of the fake NIM in it."""

    name: str
    base: str
    line: str


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Skips where the machine cannot run containers; in CI that is a failure."""
    if lacks := missing():
        text = f"the container tests need {', '.join(lacks)}"
        if os.environ.get("CI", "") not in ("", "0", "false"):
            pytest.fail(text)
        pytest.skip(text)
    kept = os.environ.get("CONTAINER_TEST_FOLDER")
    folder = Path(kept).absolute() if kept else Path(tempfile.mkdtemp(prefix="nimdrum-container-"))
    sandbox = Sandbox(folder)
    try:
        yield sandbox
        left = sandbox.podman("ps", "--all", "--quiet")
        assert not left, f"containers left: {left}"
    finally:
        sandbox.close()
        shutil.rmtree(folder if not kept else folder / "tmp")


@pytest.fixture(scope="session")
def context(sandbox: Sandbox) -> Path:
    """The build context: the repository, with things in it that must never reach an image."""
    context = sandbox.folder / "tmp" / "context"
    leave_out = shutil.ignore_patterns(".*_cache", ".venv*", "build", ".git", ".hypothesis")
    shutil.copytree(REPOSITORY, context, ignore=leave_out)
    for name in (".env", ".git/config", "model-repo/weights.safetensors", "nimdrum/__pycache__/old.cpython-310.pyc"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("must not be in the image", encoding="utf-8")
    return context


@pytest.fixture(scope="session")
def images(sandbox: Sandbox, context: Path, measured: list[str]) -> dict[str, Image]:
    """Our image for each line of NIM: 1.x on this machine's distribution, 2.x on Ubuntu 24.04, as NVIDIA's is.

    Where there is no Ubuntu to be had, 2.x is on Python 3.12, or on another release with its own Python.
    """
    suite = "noble" if find_ubuntu("noble") else None
    python = None if suite else find_python("3.12")
    suite = suite or (None if python else other_suite())
    return {
        "1.x": our_image(sandbox, context, measured, "1.x"),
        "2.x": our_image(sandbox, context, measured, "2.x", python, suite),
    }


def our_image(
    sandbox: Sandbox,
    context: Path,
    measured: list[str],
    line: str,
    python: Interpreter | None = None,
    suite: str | None = None,
) -> Image:
    """Build the real Dockerfile, with nothing replaced but its base."""
    started = time.monotonic()
    base = nim_base(sandbox, line, python, suite)
    built = time.monotonic()
    argument = f"--build-arg=BASE_IMAGE={base}"
    name = sandbox.build(
        f"nimdrum-on-{base.rpartition('/')[2]}", INSIDE / context.relative_to(sandbox.folder), argument
    )
    measured.append(f"{base}: made in {built - started:.0f} s, our image on it in {time.monotonic() - built:.0f} s")
    return Image(name, base, line)


@pytest.fixture(params=LINES)
def image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Image:
    return images[request.param]
