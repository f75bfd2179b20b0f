"""Truthful answers on DRUM's health routes: 200 ready, 503 with the progress, 513 with the cause.

The codes are those of DataRobot's own NIM road, which its platform expects. Everything comes from the state file:
the engine is not asked, so a busy one costs nothing.
"""

import time
from typing import Any

from nimdrum.base.errors import DRUM_PIPELINE_ERROR
from nimdrum.supervisor.state import EngineState, Phase

ROUTES = ("", "/", "/ping", "/ping/", "/health", "/health/")
RETRY_AFTER_SEC = 5
SHOWN_CHARACTERS = 160
LOOKS_LIKE_A_STACK = ("Traceback", "File ", "at ", "During handling", "^")

Answer = tuple[dict[str, Any], int, dict[str, str]]
"""Body, status and headers, as Flask takes them."""


def health(state: EngineState | None, now: float | None = None, trouble: str = "") -> Answer:
    """What the health routes answer for a state of the engine; None when it has no supervisor, and `trouble` why.

    Pure, but for `now`.
    """
    if state is not None and state.phase is Phase.RUNNING:
        endpoints = {"endpoints": state.seen} if state.seen else {}
        return {"message": "OK", "model": state.model, **endpoints}, 200, {}
    if state is not None and state.phase is Phase.FATAL:
        cause = state.cause or "The log has the reason."
        return {"message": f"ERROR: {state.line} has failed. {cause}"}, DRUM_PIPELINE_ERROR, {}
    progress = _progress(state, time.time() if now is None else now) if state else f"no supervisor. {trouble}".strip()
    return {"message": progress}, 503, {"Retry-After": str(RETRY_AFTER_SEC)}


def _progress(state: EngineState, now: float) -> str:
    parts = [f"{state.phase.value} for {max(0, now - state.since):.0f} s"]
    if state.restarts:
        parts.append(f"restart {state.restarts}")
    if state.cause:
        parts.append(f"after: {state.cause}")
    if last := next((line.strip() for line in reversed(state.last_lines) if not _of_a_stack(line)), ""):
        parts.append(f"last line: {last[:SHOWN_CHARACTERS]}")
    return "; ".join(parts)


def _of_a_stack(line: str) -> bool:
    return not line.strip() or line.strip().startswith(LOOKS_LIKE_A_STACK)
