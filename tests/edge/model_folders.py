"""Models on top of the image, as folders, and `start_server.sh` on one of them."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drum_process import Drum, parameters
from edge_world import REPOSITORY, World
from fake_nim.run import free_port

MODES: dict[str, dict[str, Any]] = {
    "werkzeug": {"DRUM_SERVER_TYPE": "werkzeug"},
    "werkzeug-2": {"DRUM_SERVER_TYPE": "werkzeug", "CUSTOM_MODEL_WORKERS": 2},
    "sync": {"DRUM_GUNICORN_WORKER_CLASS": "sync"},
    "sync-2": {"DRUM_GUNICORN_WORKER_CLASS": "sync", "CUSTOM_MODEL_WORKERS": 2},
    "gevent": {},
    "gevent-2": {"CUSTOM_MODEL_WORKERS": 2},
}
METADATA = (REPOSITORY / "model-metadata.yaml").read_text(encoding="utf-8")


def model_folder(world: World, files: Mapping[str, str]) -> Path:
    """A folder of a user, outside the project, with these files."""
    folder = world.folder / "model"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def start_server(world: World, model: Path, mode: str = "gevent", **runtime_parameters: Any) -> Iterator[Drum]:
    """`start_server.sh` with CODE_DIR on `model`, as in the container; ended with SIGTERM."""
    programs = world.folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "nvidia-smi").write_text('#!/bin/sh\necho "GPU 0: Fake H200 (UUID: GPU-0)"\n')
    (programs / "nvidia-smi").chmod(0o755)
    port = free_port()
    log = world.folder / "drum.log"
    environ = {
        **world.environ,
        **parameters(**MODES[mode], **runtime_parameters),
        "PATH": f"{programs}:{world.drum.parent}:{world.environ['PATH']}",
        "CODE_DIR": str(model),
        "ADDRESS": f"127.0.0.1:{port}",
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
        "NIMDRUM_LIST_PROFILES_SEC": "0",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["sh", str(REPOSITORY / "start_server.sh")], env=environ, stdout=stream, stderr=stream, cwd=world.folder
        )
    running = Drum(process, log, f"http://127.0.0.1:{port}")
    try:
        yield running
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            running.exit_code()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
