"""What the supervisor tells the world: one small JSON file for each engine, and the end of its log."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from nimdrum.base.files import replace_file
from nimdrum.base.log import get_logger
from nimdrum.supervisor.rundir import RunDir
from nimdrum.system.locks import is_locked
from nimdrum.system.output import LogTail


class Phase(str, Enum):
    """The state of an engine, in the words that operators know from Supervisor."""

    FETCHING = "FETCHING"
    """Its weights are fetched, or the user's load_model runs, before the first start."""
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STALLED = "STALLED"
    """It gives no sign of life, and is being asked for one token."""
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    FATAL = "FATAL"


@dataclass(frozen=True)
class EngineState:
    """One moment of an engine's life. Times are seconds since the epoch."""

    phase: Phase
    engine: str
    line: str
    supervisor_pid: int
    since: float
    engine_pid: int | None = None
    host: str = ""
    port: int = 0
    model: str | None = None
    restarts: int = 0
    cause: str | None = None
    """One sentence: why the engine last failed, and what to do."""
    last_lines: tuple[str, ...] = ()
    """The end of the engine's log."""
    seen: str = ""
    """What its health route last said in words; empty where it said nothing."""
    prepared: bool = False
    """What comes before the first start is done."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def write_state(path: Path, state: EngineState) -> None:
    replace_file(path, state.to_json())


def read_state(path: Path) -> EngineState | None:
    """The state in `path`, or None when there is none (yet) or it is of another version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            return None
        known = {field.name for field in fields(EngineState)}
        values = {name: value for name, value in document.items() if name in known}
        state = EngineState(**{**values, "phase": Phase(values["phase"]), "last_lines": tuple(values["last_lines"])})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return state if _is_sound(state) else None


def _is_sound(state: Any) -> bool:
    """Whether every field has its type: what else is in the file was not written by a supervisor."""
    texts = (state.engine, state.line, state.host, state.seen, *state.last_lines)
    may_miss = (state.model, state.cause)
    whole = (state.supervisor_pid, state.port, state.restarts, 0 if state.engine_pid is None else state.engine_pid)
    return (
        all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in may_miss)
        and all(isinstance(number, int) and 0 <= number < 1 << 31 for number in whole)
        and isinstance(state.since, int | float)
        and math.isfinite(state.since)
    )


def find_engines(state_root: Path) -> list[tuple[Path, EngineState]]:
    """Run folder and state of each engine below `state_root` that has a living supervisor."""
    found = []
    for path in sorted(state_root.glob("*/state.json")):
        run_dir = RunDir(path.parent)
        state = read_state(run_dir.state) if is_locked(run_dir.supervisor_lock) else None
        if state is not None:
            found.append((path.parent, state))
    return found


def newest_engine(state_root: Path, phase: Phase | None = None) -> EngineState | None:
    """That of `find_engines` whose state changed last, of those in `phase`."""
    states = [state for _, state in find_engines(state_root) if phase in (None, state.phase)]
    return max(states, key=lambda state: state.since, default=None)


def describe(path: Path, state: EngineState) -> str:
    """One engine in a few lines."""
    seconds = max(0, time.time() - state.since)  # a clock may be set back
    model = state.model or "not ready"
    lines = [
        f"{state.phase.value} for {seconds:.0f} s: {state.line}, model {model}, {state.url}",
        f"  supervisor {state.supervisor_pid}, engine {state.engine_pid or 'none'}, restarts {state.restarts}",
        f"  state in {path}",
    ]
    if state.seen:
        lines.append(f"  {state.seen}")
    if state.cause:
        lines.append(f"  last cause: {state.cause}")
    return "\n".join(lines)


SAVE_EVERY_SEC = 1.0
FRESHEN_EVERY_SEC = 3600.0
STATE_LINES = 20

log = get_logger("supervisor")


class Record:
    """The files of `run_dir`; `state` gives the state of the moment.

    A disk that is full for a while must not end an engine that serves: what could not be written is tried again. And
    what somebody else deleted or wrote into is written again.
    """

    def __init__(self, run_dir: RunDir, tail: LogTail, state: Callable[[], EngineState]) -> None:
        self._run_dir = run_dir
        self._tail = tail
        self._state = state
        self._state_is_old = True
        self._state_written = b""
        self._seen_written = ""
        self._lines_written = 0
        self._tried_at = self._freshened_at = -math.inf
        self._trouble = ""

    def begin(self) -> None:
        """Write the first state. Raises OSError: nobody could see an engine whose state cannot be written."""
        self._write_state(self._state())

    def _write_state(self, state: EngineState) -> None:
        write_state(self._run_dir.state, state)
        self._state_written = state.to_json().encode("utf-8", "replace")
        self._seen_written = state.seen
        self._state_is_old = False

    def _is_spoilt(self) -> bool:
        try:
            with self._run_dir.state.open("rb") as file:
                return file.read(len(self._state_written) + 1) != self._state_written
        except OSError:
            return True

    def changed(self) -> None:
        """Write the state now: it is another one."""
        self._state_is_old = True
        self._write()

    def tick(self) -> None:
        """Write what is new or could not be written before, and keep the files from looking old; each not too often."""
        now = time.monotonic()
        if now - self._tried_at >= SAVE_EVERY_SEC:
            self._write()
        if now - self._freshened_at >= FRESHEN_EVERY_SEC:
            self._freshened_at = now
            self._run_dir.freshen()

    def _write(self) -> None:
        self._tried_at = time.monotonic()
        lines = self._tail.changes
        new_lines = lines != self._lines_written
        state = self._state()
        try:
            # While it loads, health shows its last line as the progress.
            loading = new_lines and state.phase in (Phase.FETCHING, Phase.STARTING)
            if self._state_is_old or loading or state.seen != self._seen_written or self._is_spoilt():
                self._write_state(state)
            if new_lines:
                replace_file(self._run_dir.log, "".join(f"{line}\n" for line in self._tail.last()))
                self._lines_written = lines
            self._trouble = ""
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.error("The engine's state and log cannot be written for now, and others see old ones: %s", error)
