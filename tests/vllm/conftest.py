"""Fixtures of the tests on the real vLLM: one engine, and one DRUM server before it, for most of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "edge"))

from drum_process import Drum, drum_server
from vllm_world import PARAMETERS, READY_SEC, SLOTS, Engine, vllm_world

HERE = Path(__file__).resolve().parent
INSTALLATION = "NIMDRUM_VLLM"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder share the engines, so one process runs them; each may wait for two starts."""
    for item in items:
        if HERE in item.path.parents:
            for mark in (pytest.mark.vllm, pytest.mark.xdist_group("vllm"), pytest.mark.timeout(2 * READY_SEC)):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def installation() -> Path:
    """Where `make vllm` put vLLM and its weights. Skipped without, failed in CI."""
    folder = Path(os.environ.get(INSTALLATION) or "/nonexistent")
    missing = [name for name in ("venv/bin/vllm", "weights/config.json") if not (folder / name).exists()]
    if missing or not shutil.which("nginx"):
        said = f"no vLLM ({INSTALLATION} names no folder with {' and '.join(missing)})" if missing else "no nginx"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{said}: `make vllm` installs both and runs these")
    return folder


@pytest.fixture(scope="session")
def engine(installation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """vLLM with eight slots, ready; tests that break it wait until it is back, or the next one does."""
    folder = tmp_path_factory.mktemp("vllm")
    with vllm_world(folder, installation, NIM_PASSTHROUGH_ARGS=f"--max-num-seqs {SLOTS}") as world:
        engine = Engine(world)
        engine.model()
        yield engine


@pytest.fixture(scope="session")
def drum(engine: Engine) -> Iterator[Drum]:
    """DRUM's server on the same engine."""
    with drum_server(engine.world, **{"system_prompt": "", **PARAMETERS}) as running:
        running.wait_health(200)
        yield running
