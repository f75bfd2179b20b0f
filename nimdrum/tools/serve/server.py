"""The server's process: start_server.sh, as the container has it, with an end that leaves nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import requests

from nimdrum.base.parameters import PACKAGE
from nimdrum.system import launch

SCRIPT = "start_server.sh"
POLL_SEC = 0.2
ANSWER_SEC = 10.0
KEPT_LINES = 15
KILLED_SEC = 30.0
READY = 200


def find_script() -> Path:
    """In an installed package beside its modules, in a checkout one folder up."""
    installed = PACKAGE / SCRIPT
    return installed if installed.is_file() else PACKAGE.parent / SCRIPT


class Server:
    """A running server. Its lines go to `on_line`; it dies with this process, whatever ends that."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        own = [sys.executable, "-I", "-S", str(launch.__file__), str(os.getpid())]
        self._process = subprocess.Popen(
            [*own, "sh", str(find_script()), *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us: gunicorn's own way to take it ends in stacks
        )
        threading.Thread(target=self._read, name="nimdrum-server-output", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            self.last_lines.append(line.rstrip("\n"))
            self._on_line(self.last_lines[-1])

    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        """Until it ends by itself."""
        while (code := self._process.poll()) is None:
            time.sleep(POLL_SEC)
        return code

    def ask_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Its processes at once; the supervisor, which is none of them, then stops the engine."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILLED_SEC)


def wait_ready(server: Server, url: str) -> bool:
    """Until health answers 200; False when the server ended before."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine
        while server.exit_code() is None:
            with contextlib.suppress(requests.RequestException):
                if session.get(f"{url}/health/", timeout=ANSWER_SEC).status_code == READY:
                    return True
            time.sleep(POLL_SEC)
    return False
