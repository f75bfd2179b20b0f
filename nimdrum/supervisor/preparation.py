"""What runs before the engine: the fetch of its weights, as a child of the supervisor like the engine itself."""

import signal
import subprocess
from pathlib import Path

from nimdrum.base.log import event, get_logger
from nimdrum.engines.plan import Preparation
from nimdrum.supervisor.policy import Failed, Prepared
from nimdrum.system import process
from nimdrum.system.output import LogTail, OutputPump
from nimdrum.weights.child import CAUSE, write_request

LAST_WORDS_SEC = 2.0

log = get_logger("supervisor")


class Preparing:
    """The process of one Preparation. Must be used from the supervisor's main thread."""

    def __init__(self, preparation: Preparation, run_path: Path, tail: LogTail) -> None:
        self._preparation = preparation
        self._run_path = run_path
        self._tail = tail
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: OutputPump | None = None

    def start(self) -> None:
        todo = self._preparation
        self._process = process.start(todo.argv, todo.env, "/", str(self._run_path), subprocess.PIPE)
        write_request(self._process, todo.request)
        if self._process.stdout:
            self._pump = OutputPump(self._process.stdout, self._tail, "weights")
            self._pump.start()

    def outcome(self, ended: dict[int, int]) -> Prepared | Failed | None:
        """What its end means, if it is among those that ended (`ended`: process id to exit code)."""
        if self._process is None or self._process.pid not in ended:
            return None
        code = self._process.returncode = ended[self._process.pid]
        event(log, "weights.ended", pid=self._process.pid, exit_code=code)
        lines: tuple[str, ...] = ()
        if self._pump:
            self._pump.join(LAST_WORDS_SEC)
            lines = tuple(self._pump.mine)
        self._process = None
        if code == 0:
            return Prepared()
        causes = [line.removeprefix(CAUSE) for line in lines if line.startswith(CAUSE)]
        # SIGKILL comes from outside, and what has arrived is kept: going on helps. All else would fail again.
        if code == -signal.SIGKILL:
            return Failed("The process that fetches the weights was killed.", retry=True)
        return Failed(causes[-1] if causes else f"Fetching the weights ended with code {code}.", retry=False)


def tenth_told(line: str) -> int | None:
    """How many tenths of the weights are there, by a line of the fetch; None where it does not say. Pure."""
    name, _, rest = line.partition(" ")
    if name != "weights.fetching" or not rest.startswith("percent="):
        return None
    percent = rest.removeprefix("percent=").partition(" ")[0]
    return int(percent) // 10 if percent.isdigit() else None
