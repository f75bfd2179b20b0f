"""The wheel: built from this folder, installed beside nothing of it, and used from an empty one."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_world import READY_SEC, REPOSITORY, World
from model_folders import model_folder, start_server
from models_page import examples

from nimdrum import __version__

Installed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel was installed into, without what it needs: that is here already."""
    folder = tmp_path_factory.mktemp("package")
    lock, quiet = str(REPOSITORY / "requirements/build.txt"), ["--disable-pip-version-check", "--quiet"]
    build = [str(folder / "venv/bin/python"), "-m", "pip", *quiet]
    install = [sys.executable, "-m", "pip", *quiet, "install", "--ignore-installed", "--prefix", str(folder / "prefix")]
    offline = ["--no-index", "--no-deps"]
    for command in (
        [sys.executable, "-m", "venv", str(folder / "venv")],
        [*build, "install", "--require-hashes", "-r", lock],
        [*build, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(REPOSITORY)],
        [*install, *offline, "nimdrum", "--find-links", str(folder)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "prefix"


def site_packages(prefix: Path) -> Path:
    return next(prefix.glob("lib/python3.*/site-packages"))


@pytest.fixture
def installed(prefix: Path, world: World) -> Installed:
    """The console command, in an empty folder."""
    environ = {
        **world.environ,
        "PYTHONPATH": str(site_packages(prefix)),
        "NIMDRUM_STATE_DIR": str(world.state_root),
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
    }
    empty = world.folder / "empty"
    empty.mkdir()

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(prefix / "bin" / "nimdrum"), *arguments]
        return subprocess.run(command, env=environ, cwd=empty, capture_output=True, text=True, timeout=READY_SEC)

    return run


def test_the_wheel_holds_the_list_of_parameters_and_no_hook_file(prefix: Path) -> None:
    """DRUM looks into every folder for custom.py, a virtual environment in a model's folder included."""
    (wheel,) = prefix.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "nimdrum/model-metadata.yaml" in names
    assert not [name for name in names if Path(name).name in ("custom.py", "custom_flask.py")]
    assert not [name for name in names if not name.startswith(("nimdrum/", "nimdrum-"))]


def test_commands_in_an_empty_folder(installed: Installed, world: World) -> None:
    assert installed("--version").stdout.split()[-1] == __version__
    assert (status := installed("status")).returncode == 1
    assert status.stdout == "No engine of this user runs here.\n"
    doctor = json.loads(installed("doctor", "--json").stdout)
    findings = {finding["name"]: finding for finding in doctor["findings"]}
    assert findings["parameters"]["level"] == "ok"
    assert str(world.folder / "empty") in findings["code folder"]["message"]
    profiles = installed("profiles")
    assert profiles.returncode != 0
    assert "Traceback" not in profiles.stderr
    uploaded = installed("upload", "--image-uri", "registry.example.com/x", "--dry-run")
    assert (uploaded.returncode, "from a copy of the project" in uploaded.stderr) == (2, True)


@pytest.mark.drum
def test_a_list_of_parameters_alone_is_a_model(installed: Installed, prefix: Path, world: World) -> None:
    """start_server.sh with the installed command: nothing of this folder is on the way."""
    world.fake()
    model = model_folder(world, examples("A list of parameters")[0])
    made = Path(installed("code-dir", str(model)).stdout.strip())
    assert str(site_packages(prefix)) in (made / "custom.py").read_text()
    world.environ["PATH"] = f"{prefix / 'bin'}{os.pathsep}{world.environ['PATH']}"
    world.environ["PYTHONPATH"] = str(site_packages(prefix))
    with start_server(world, model) as server:
        server.wait_health(200)
        assert str(REPOSITORY) not in server.printed


def test_it_scores_and_can_serve(installed: Installed, world: World, prefix: Path) -> None:
    """From an empty folder: prompts in, answers out; and the server's entry point came along."""
    world.fake()
    rows = world.folder / "rows.csv"
    rows.write_text("promptText\nhello\n")
    done = installed("score", str(rows), "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert json.loads((world.folder / "empty/out.jsonl").read_text())["Predictions"] == "echo: hello"
    assert (site_packages(prefix) / "nimdrum/start_server.sh").read_bytes() == (
        REPOSITORY / "start_server.sh"
    ).read_bytes()
