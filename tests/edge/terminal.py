"""A command in a pseudo-terminal of a given width, and what a person would have seen there, moment by moment."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyte

LINES = 60
READ_BYTES = 65_536
POLL_SEC = 0.1
NIMDRUM = (sys.executable, "-m", "nimdrum")


@dataclass
class Session:
    """What was shown. `moments` holds the lines of the screen after each piece of output, without empty ones."""

    process: "subprocess.Popen[bytes]"
    descriptor: int
    width: int
    raw: bytes = b""
    moments: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._screen = pyte.HistoryScreen(self.width, LINES, history=10_000)
        self._stream = pyte.ByteStream(self._screen)

    def read_on(self, until: str = "", timeout_sec: float = 110.0) -> None:
        """Until `until` is shown, or without it until the command has ended. AssertionError when it takes too long."""
        deadline = time.monotonic() + timeout_sec
        while time.monotonic() < deadline:
            had_ended = self.process.poll() is not None  # asked before the look: it may print and end right after one
            ready, _, _ = select.select([self.descriptor], [], [], POLL_SEC)
            piece = b""
            if ready:
                with contextlib.suppress(OSError):  # how Linux says that nobody has the terminal any more
                    piece = os.read(self.descriptor, READ_BYTES)
                if not piece:
                    return
            elif had_ended:
                return
            self.raw += piece
            self._stream.feed(piece)
            self.moments.append(tuple(line.rstrip() for line in self._screen.display if line.strip()))
            if until and any(until in line for line in self.moments[-1]):
                return
        raise AssertionError(f"not within {timeout_sec:g} s: {self.last}")

    @property
    def last(self) -> tuple[str, ...]:
        return self.moments[-1] if self.moments else ()

    @property
    def seen(self) -> set[str]:
        """Every line that was ever shown."""
        return {line for moment in self.moments for line in moment}

    def exit_code(self) -> int:
        self.read_on()
        return self.process.wait(110)


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def session(
    arguments: list[str], environ: Mapping[str, str], cwd: Path, width: int = 80, program: tuple[str, ...] = NIMDRUM
) -> Iterator[Session]:
    """`nimdrum ARGUMENTS`, or another program, with a terminal of its own; killed at the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, width, 0, 0))
    process = subprocess.Popen(
        [*program, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environ, "TERM": "xterm-256color"},
        cwd=cwd,
        preexec_fn=_own_terminal,  # so that Ctrl-C, typed there, is a signal
    )
    os.close(theirs)
    try:
        yield Session(process, ours, width)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
