"""A person's door: `python -m nimdrum`."""

import os
import shutil
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The folder that holds this package: in a checkout the whole project."""
CODE_DIR = Path(os.environ.get("CODE_DIR") or (PROJECT if (PROJECT / "custom.py").is_file() else "."))
"""The model that commands look at unless they are told another: the container's, the project's own, or the one here."""


def this_command() -> str:
    """How a person calls this program from another terminal: a checkout does not put `nimdrum` on PATH."""
    return "nimdrum" if shutil.which("nimdrum") else f"{sys.executable} -m nimdrum"
