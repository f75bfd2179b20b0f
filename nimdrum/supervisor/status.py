"""The engines of this user, for `python -m nimdrum status`."""

import time
from pathlib import Path

from nimdrum.supervisor.rundir import RunDir
from nimdrum.supervisor.state import EngineState, read_state
from nimdrum.system.locks import is_locked


def find_engines(state_root: Path) -> list[tuple[Path, EngineState]]:
    """Run folder and state of each engine below `state_root` that has a living supervisor."""
    found = []
    for path in sorted(state_root.glob("*/state.json")):
        run_dir = RunDir(path.parent)
        state = read_state(run_dir.state) if is_locked(run_dir.supervisor_lock) else None
        if state is not None:
            found.append((path.parent, state))
    return found


def describe(path: Path, state: EngineState) -> str:
    """One engine in a few lines."""
    seconds = max(0, time.time() - state.since)  # a clock may be set back
    model = state.model or "not ready"
    lines = [
        f"{state.phase.value} for {seconds:.0f} s: {state.line}, model {model}, {state.url}",
        f"  supervisor {state.supervisor_pid}, engine {state.engine_pid or 'none'}, restarts {state.restarts}",
        f"  state in {path}",
    ]
    if state.cause:
        lines.append(f"  last cause: {state.cause}")
    return "\n".join(lines)
