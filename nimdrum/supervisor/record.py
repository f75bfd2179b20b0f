"""What an engine's supervisor writes down for others: the state file and the end of the engine's log."""

import math
import time
from collections.abc import Callable

from nimdrum.base.files import replace_file
from nimdrum.base.log import get_logger
from nimdrum.supervisor.rundir import RunDir
from nimdrum.supervisor.state import EngineState, Phase, write_state
from nimdrum.system.output import LogTail

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
        self._lines_written = 0
        self._tried_at = self._freshened_at = -math.inf
        self._trouble = ""

    def begin(self) -> None:
        """Write the first state. Raises OSError: nobody could see an engine whose state cannot be written."""
        self._write_state(self._state())

    def _write_state(self, state: EngineState) -> None:
        write_state(self._run_dir.state, state)
        self._state_written = state.to_json().encode("utf-8", "replace")
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
            if self._state_is_old or loading or self._is_spoilt():
                self._write_state(state)
            if new_lines:
                replace_file(self._run_dir.log, "".join(f"{line}\n" for line in self._tail.last()))
                self._lines_written = lines
            self._trouble = ""
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.error("The engine's state and log cannot be written for now, and others see old ones: %s", error)
