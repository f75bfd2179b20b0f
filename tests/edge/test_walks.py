"""The walks of docs/architecture.md that cross processes, walked: a parameter to the engine, a crash to the restart."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from edge_world import GONE_SEC, READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for
from walked import CRASH, PARAMETER, assert_walked, read_calls

from nimdrum.supervisor.state import EngineState, Phase, find_engines

WALKED = REPOSITORY / "tests/unit/walked.py"
DRUM = """
import sys, custom
code_dir, sys.executable = sys.argv[1:]
custom.load_model(code_dir)
sys.stdin.read()
"""
LAUNCHER = ("nimdrum/system/launch.py", "main")  # a third process; that the engine runs shows that it was reached


def _parameter(kind: str, value: object) -> str:
    return json.dumps({"type": kind, "payload": value})


def test_a_parameter_and_a_crash_walk_so(world: World, tmp_path: Path, clean_environ: dict[str, str]) -> None:
    """DRUM's process and the supervisor record their calls while a real engine is started, killed and started again."""
    world.fake()
    drum, supervisor = tmp_path / "drum.json", tmp_path / "supervisor.json"
    program, python = tmp_path / "program.py", tmp_path / "python"
    program.write_text(DRUM)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{WALKED}" "{supervisor}" "$@"\n')
    python.chmod(0o755)
    environ = {
        **clean_environ,
        "PYTHONPATH": str(REPOSITORY),
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
        "NIM_CACHE_PATH": world.environ["NIM_CACHE_PATH"],
        "MLOPS_RUNTIME_PARAM_engine": _parameter("string", "nim"),
        "MLOPS_RUNTIME_PARAM_NIM_MAX_MODEL_LEN": _parameter("numeric", 4321),
        "MLOPS_RUNTIME_PARAM_max_watchdog_backoff_sec": _parameter("numeric", 1),
    }

    def running(restarts: int) -> EngineState | None:
        states = [state for _, state in find_engines(world.state_root)]
        return next((s for s in states if s.phase is Phase.RUNNING and s.restarts == restarts), None)

    command = [sys.executable, str(WALKED), str(drum), str(program), str(world.code_dir), str(python)]
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        wait_for(lambda: running(0) is not None or process.poll() is not None, READY_SEC)
        first = running(0)
        assert first is not None
        assert first.engine_pid is not None
        os.kill(first.engine_pid, signal.SIGKILL)
        wait_for(lambda: running(1) is not None, READY_SEC)
        process.communicate(timeout=GONE_SEC)
    wait_for(supervisor.exists, GONE_SEC)
    assert [start["env"]["NIM_MAX_MODEL_LEN"] for start in world.starts()] == ["4321", "4321"]
    assert_walked(PARAMETER, read_calls(drum) + read_calls(supervisor), unseen={LAUNCHER})
    assert_walked(CRASH, read_calls(supervisor), unseen={LAUNCHER})
