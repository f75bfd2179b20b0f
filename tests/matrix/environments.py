"""A virtual environment for each Python, DRUM and openai: made once, used by all cells that name them.

What pyproject.toml asks for is installed, so a DRUM or openai that it does not allow ends here; all other packages are
as locked. The environments lie outside the checkout, which DRUM searches for hooks at every start.
"""

import fcntl
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from edge_world import REPOSITORY
from interpreters import Interpreter

from matrix.cells import Combination

UV = Path(sys.executable).with_name("uv")
INSTALL_SEC = 900
DEPENDENCIES = re.compile(r"^dependencies = \[.*?^\]", re.MULTILINE | re.DOTALL)
PIN = re.compile(r"^([a-z0-9._-]+)==[^\\\n]*", re.MULTILINE)


def environments_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nimdrum-matrix"


def ready_environment(python: Interpreter, combination: Combination) -> Path:
    """The folder of programs of the environment. AssertionError with the resolver's words where it cannot be."""
    chosen = {"datarobot-drum": combination.drum, "openai": combination.openai}
    lock = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    constraints = "".join(f"{pin[0]}\n" for pin in PIN.finditer(lock) if pin[1] not in chosen)
    asked = DEPENDENCIES.findall((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    made_of = sha256(f"{python.program}{asked}{constraints}".encode()).hexdigest()
    folder = environments_dir() / f"{combination.environment}-{made_of[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as made:
        fcntl.flock(made, fcntl.LOCK_EX)  # another test process may be making it
        if not (folder / "complete").exists():
            (folder / "constraints.txt").write_text(constraints, encoding="utf-8")
            _uv("venv", "--clear", "--python", str(python.program), str(folder / "venv"))
            _uv(
                *("pip", "install", "--python", str(folder / "venv"), "--constraint", str(folder / "constraints.txt")),
                *("--requirement", str(REPOSITORY / "pyproject.toml")),
                *(f"{name}=={version}" for name, version in chosen.items()),
            )
            (folder / "complete").touch()
    return folder / "venv" / "bin"


def _uv(*arguments: str) -> None:
    done = subprocess.run([str(UV), "--quiet", *arguments], capture_output=True, text=True, timeout=INSTALL_SEC)
    assert done.returncode == 0, done.stderr
