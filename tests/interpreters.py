"""The Pythons of this machine."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Interpreter:
    """A Python: its version (3.12), its program, and the folder that holds its bin and lib; no virtual environment."""

    version: str
    program: Path
    prefix: Path


def pythons(version: str) -> Iterator[Interpreter]:
    """Those of this version that can make a virtual environment: on PATH, and where pyenv keeps them."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for candidate in [*([on_path] if on_path else []), *sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))]:
        ask = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2], sys.base_prefix)"
        done = subprocess.run([str(candidate), "-c", ask], capture_output=True, text=True)
        found, _, prefix = done.stdout.strip().partition(" ")
        if found == version:
            yield Interpreter(version, Path(prefix, "bin", f"python{version}"), Path(prefix))
