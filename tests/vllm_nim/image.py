"""The stand-in's image tree on disk: what a launcher looks for, and a start script that works."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEMPLATE = "nginx.conf.template"


def build_image(root: Path, python: Path, weights: Path) -> Path:
    """Write the tree of an image below `root`, with vLLM as `python` has it and these weights; its start script.

    As in an image of one model, the weights are the image's unless NIM_MODEL_PATH names others.
    """
    nim = root.resolve() / "opt/nim"
    (nim / "scripts").mkdir(parents=True)
    (nim / "etc/default").mkdir(parents=True)
    (nim / "etc/default/model_manifest.yaml").write_text("# stand-in: no profiles\nprofiles: []\n", encoding="utf-8")
    shutil.copy(HERE / TEMPLATE, nim / "etc" / TEMPLATE)
    defaults = {
        "NIM_MODEL_PATH": weights,
        "NIM_NGINX_DIR": nim / "nginx",
        "NIM_NGINX_TEMPLATE": nim / "etc" / TEMPLATE,
    }
    variables = [f': "${{{name}:={shlex.quote(str(value))}}}"; export {name}' for name, value in defaults.items()]
    _script(nim / "scripts/nginx_env_vars.sh", *variables)
    run = shlex.join([str(python), "-I", str(HERE / "serve.py")])
    return _script(
        nim / "start_server.sh", f". {shlex.quote(str(nim / 'scripts/nginx_env_vars.sh'))}", f'exec {run} "$@"'
    )


def _script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", "# Stand-in of NIM 3: test code.", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return path
