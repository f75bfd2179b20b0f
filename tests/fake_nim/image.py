"""An image tree on disk: the files by which a launcher tells the lines apart, and a working start script."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from .config import FakeNimConfig
from .releases import ENTRYPOINT, RELEASES

SERVER = Path(__file__).resolve().with_name("server.py")
CONFIG_NAME = "fake_nim.json"
_BANNER = "== Fake NVIDIA Inference Microservice =="


def build_image(
    root: Path,
    config: FakeNimConfig,
    *,
    python: str = sys.executable,
    server: Path = SERVER,
    seen_at: Path | None = None,
) -> Path:
    """Write the tree of an image of `config.line` below `root`; the path of its start script.

    The script runs `server` under `python` with the config written beside it, and passes its own arguments
    on. Call it again with another config to change what the next start does. `seen_at` is where the tree lies
    for the script when it runs, if not at `root`.
    """
    nim = root.resolve() / "opt/nim"
    _write(nim / CONFIG_NAME, config.to_json())
    config_path = (seen_at or root.resolve()) / "opt/nim" / CONFIG_NAME
    for name in RELEASES[config.release or config.line].files:
        if name == ENTRYPOINT:
            _script(root / name, f"echo '{_BANNER}'", 'exec "$@"')
        elif name.endswith(".sh"):
            _script(root / name, "true")
        elif name.endswith((".yaml", ".template")):
            _write(root / name, _MANIFEST if name.endswith(".yaml") else "# fake\n")
        else:
            (root / name).mkdir(parents=True, exist_ok=True)
    command = shlex.join([python, "-I", "-S", str(server), str(config_path)]) + ' "$@"'
    name = "start-server.sh" if config.line == "1.x" and config.legacy_script_name else "start_server.sh"
    if config.shell_stays:  # a shell runs its trap only after the child in its foreground has ended
        return _script(nim / name, "trap 'exit 0' TERM INT", command, "exit $?")
    return _script(nim / name, f"exec {command}")


_MANIFEST = "# fake: no profiles\nprofiles: []\n"


def _script(path: Path, *lines: str) -> Path:
    _write(path, "\n".join(["#!/bin/sh", "# Fake NIM: test code.", *lines, ""]))
    path.chmod(0o755)
    return path


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
