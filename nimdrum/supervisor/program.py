"""One program run to its end: its output read and masked, a time limit, and nothing left of it however it ends.

For tools beside the engine (NIM's own command line, nvidia-smi): `subprocess.run` with a time limit kills only the
first process, and then waits without a limit for the others to close their output.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from nimdrum.supervisor import process
from nimdrum.supervisor.output import LogTail, OutputPump

POLL_SEC = 0.05
POLITE_SEC = 10.0
LAST_WORDS_SEC = 5.0
MOST_LINES = 20_000
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it printed on both of its streams, secrets masked."""

    exit_code: int | None
    """Negative for a signal; None when it was stopped here."""
    lines: tuple[str, ...]
    signal: int | None = None
    """The signal to this process for which it was stopped; None with no exit code: the time was up."""


def run_program(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str,
    timeout_sec: float,
    marker: str,
    secrets: Sequence[str] = (),
    on_line: Callable[[str], None] = lambda line: None,
    tick: Callable[[], None] = lambda: None,
) -> Ended:
    """Run `argv`. `on_line` gets each line as it comes (from a thread), `tick` is called until the end.

    Must be called from the main thread of a process that has no other children: all below it are stopped at the
    end. `marker` is put into the environment of all of them. Raises OSError when `cwd` is not there; a program that
    is not there ends with 127.
    """
    lines: list[str] = []

    def keep(line: str) -> None:
        if len(lines) < MOST_LINES:
            lines.append(line)
        with suppress(OSError, ValueError):  # nobody reads our output any more: the program must not wait for it
            on_line(line)

    process.become_subreaper()
    deadline = time.monotonic() + timeout_sec
    with _signals() as seen:
        child = process.start(argv, env, cwd, marker)
        try:
            assert child.stdout is not None  # noqa: S101 - as process.start asks for it
            pump = OutputPump(child.stdout, LogTail(secrets, keep))
            pump.start()
            while child.returncode is None and not seen and time.monotonic() < deadline:
                child.returncode = process.reap().get(child.pid)
                tick()
                time.sleep(POLL_SEC)
            exit_code = child.returncode
        finally:
            process.stop_tree(POLITE_SEC)
            child.returncode = child.returncode or 0  # collected by stop_tree; Popen must not wait for it again
        pump.join(LAST_WORDS_SEC)
        return Ended(exit_code, tuple(lines), seen[0] if seen and exit_code is None else None)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end, instead of ending."""
    seen: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: seen.append(number)) for number in STOPPING}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
