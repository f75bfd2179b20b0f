"""The terminal of a command: what it says itself, and the log of everything below it, kept apart.

The supervisor, the engine and llama.cpp write to standard error as they like. While a command shows a live line that
goes through a pipe, of which lines come out above it, or not at all.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nimdrum.tools.lines import Kind, kind_of

JOIN_SEC = 1.0
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
TERMINATED = 128 + signal.SIGTERM


class Screen:
    """Lines on standard error, as long as `kept_apart` lasts."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self.console = console
        self.shown = {Kind.TOLD, Kind.BACK, Kind.ACCESS, Kind.LOG} if verbose else {Kind.TOLD}
        self.writing = threading.RLock()
        """Held by who prints, and while a live line comes or goes: Rich draws it below what is being printed, too."""

    def say(self, text: str, style: str = "") -> None:
        """What the command itself has to say; longer lines stay whole."""
        with self.writing:
            self.console.print(Text(text, style), soft_wrap=True)

    def log(self, line: str) -> None:
        """What others print."""
        if kind_of(line) in self.shown:
            self.say(line, "dim")


@contextlib.contextmanager
def kept_apart(verbose: bool) -> Iterator[Screen]:
    """Standard error belongs to the screen; what anybody else writes to it is log. SIGTERM ends the block in order."""
    saved = os.dup(2)
    read_end, write_end = os.pipe()
    sys.stderr.flush()
    os.dup2(write_end, 2)
    os.close(write_end)
    with os.fdopen(saved, "w", encoding="utf-8", errors="replace", buffering=1) as stream:
        screen = Screen(Console(file=stream, highlight=False, markup=False, emoji=False), verbose)
        reader = threading.Thread(target=_read, args=(read_end, screen.log), name="nimdrum-log", daemon=True)
        reader.start()
        handler = _Warnings(screen)
        before = signal.signal(signal.SIGTERM, _end)
        if verbose:
            logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
        else:
            logging.getLogger("nimdrum").addHandler(handler)
        try:
            yield screen
        finally:
            logging.getLogger("nimdrum").removeHandler(handler)
            sys.stderr.flush()
            os.dup2(saved, 2)
            reader.join(JOIN_SEC if verbose else 0)  # its end comes when the last child that has the pipe is gone
            signal.signal(signal.SIGTERM, before)


def show_again(text: Callable[[], str], every_sec: float = 1.0) -> None:
    """Until Ctrl-C: in the same place on a terminal, elsewhere once for each change."""
    console = Console(highlight=False, markup=False, emoji=False)
    shown = ""
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            if console.is_terminal:
                live.update(Text(text()), refresh=True)
            elif (now := text()) != shown:
                shown = now
                print(shown, flush=True)
            time.sleep(every_sec)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def _read(descriptor: int, log: Callable[[str], None]) -> None:
    with os.fdopen(descriptor, "r", encoding="utf-8", errors="replace") as pipe:
        for line in pipe:
            log(line.rstrip("\n"))


class _Warnings(logging.Handler):
    """What is worth a line although the log is not shown."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(f"{record.levelname.capitalize()}: {record.getMessage()}", "yellow")
