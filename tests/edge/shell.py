"""`python -m nimdrum ...` as a person runs it: a child process in a world."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from edge_world import READY_SEC, REPOSITORY, TOKEN, World
from fake_nim.config import FakeNimConfig
from fake_nim.image import build_image
from fake_nim.run import read_lines
from fake_nim.tools import FakeTools, add_tools


class Shell:
    """`python -m nimdrum ...` in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.environ = {
            **world.environ,
            "NIMDRUM_IMAGE_ROOT": str(world.image_root),
            "NIMDRUM_STATE_DIR": str(world.state_root),
            "DATAROBOT_API_TOKEN": TOKEN,
        }
        self.cache = Path(world.environ["NIM_CACHE_PATH"])

    def image(self, line: str = "1.x", *, on_path: bool = True, **switches: Any) -> None:
        build_image(self.world.image_root, FakeNimConfig(line=line))
        self.world.record_dir.mkdir(exist_ok=True)
        add_tools(self.world.image_root, FakeTools(str(self.record), **switches), on_path=on_path)

    @property
    def record(self) -> Path:
        return self.world.record_dir / "tools.jsonl"

    def calls(self) -> list[dict[str, Any]]:
        return read_lines(self.record)

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "nimdrum", *arguments],
            cwd=REPOSITORY,
            env={**self.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, environ=environ)
        try:
            out, err = process.communicate(timeout=READY_SEC)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(world)
