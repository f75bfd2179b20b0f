"""DRUM itself as a child process, on the repository's own hooks."""

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from edge_world import READY_SEC, REPOSITORY, World
from fake_nim.run import free_port, wait_for

SERVERS: dict[str, dict[str, Any]] = {
    "werkzeug 1": {},
    "werkzeug 3": {"workers": 3},
    "sync 1": {"worker_class": "sync"},
    "sync 2": {"worker_class": "sync", "workers": 2},
    "gevent 1": {"worker_class": "gevent"},
    "gevent 2": {"worker_class": "gevent", "workers": 2},
}
TYPES = {bool: "boolean", int: "numeric", float: "numeric", str: "string", dict: "credential"}


@dataclass
class Drum:
    """A running `drum`: its process, and the file that everything it prints goes to."""

    process: "subprocess.Popen[bytes]"
    log: Path
    url: str = ""

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_line(self, text: str) -> None:
        """Until it prints `text`; AssertionError with the log when it ends or takes too long."""
        wait_for(lambda: text in self.printed or self.process.poll() is not None, READY_SEC)
        assert text in self.printed, self.printed[-3000:]

    def exit_code(self) -> int:
        return self.process.wait(READY_SEC)

    def health(self) -> requests.Response | None:
        """The answer of /health/, or None while nobody listens, or who answered was killed."""
        with contextlib.suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return requests.get(f"{self.url}/health/", timeout=READY_SEC)
        return None

    def wait_health(self, status: int) -> requests.Response:
        """Until /health/ answers `status`; AssertionError with the log when the server ends before."""
        answer: list[requests.Response | None] = [None]

        def there() -> bool:
            answer[0] = self.health()
            return self.process.poll() is not None or (answer[0] is not None and answer[0].status_code == status)

        wait_for(there, READY_SEC)
        assert answer[0] is not None, self.printed[-3000:]
        assert answer[0].status_code == status, self.printed[-3000:]
        return answer[0]


def parameters(**values: Any) -> dict[str, str]:
    """Runtime parameters as the environment variables that DataRobot sets."""
    return {
        f"MLOPS_RUNTIME_PARAM_{name}": json.dumps({"type": TYPES[type(value)], "payload": value})
        for name, value in values.items()
    }


@contextlib.contextmanager
def drum(world: World, *arguments: str, code_dir: Path = REPOSITORY, **runtime_parameters: Any) -> Iterator[Drum]:
    """`drum ARGUMENTS` on the repository's hooks, with the world's image and state folder; killed at the end."""
    log = world.folder / "drum.log"
    environ = {
        **world.environ,
        **parameters(**runtime_parameters),
        "PATH": f"{world.drum.parent}:{world.environ['PATH']}",
        "TARGET_NAME": '"resultText"',  # quoted, as the platform sends it
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
    }
    common = ("--code-dir", str(code_dir), "--language", "python", "--target-type", "textgeneration")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(world.drum), *arguments, *common],
            env=environ,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=world.folder,
        )
    try:
        yield Drum(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def drum_score(world: World, rows: Path, output: Path, **runtime_parameters: Any) -> Iterator[Drum]:
    with drum(world, "score", "--input", str(rows), "--output", str(output), **runtime_parameters) as running:
        yield running


@contextlib.contextmanager
def drum_server(world: World, *, worker_class: str = "", workers: int = 1, **runtime_parameters: Any) -> Iterator[Drum]:
    """`drum server`: werkzeug, or gunicorn with the worker class sync or gevent. Ended with SIGTERM."""
    port = free_port()
    mode: dict[str, Any] = {"DRUM_SERVER_TYPE": "gunicorn" if worker_class else "werkzeug"}
    if worker_class:
        mode |= {"DRUM_GUNICORN_WORKER_CLASS": worker_class, "DRUM_WORKER_CONNECTIONS": 100}
    if workers > 1:
        mode["CUSTOM_MODEL_WORKERS"] = workers
    with drum(world, "server", "--address", f"127.0.0.1:{port}", **mode, **runtime_parameters) as running:
        running.url = f"http://127.0.0.1:{port}"
        yield running
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            running.exit_code()


def port_is_free(drum: Drum) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(drum.url.rpartition(":")[2])))
        except OSError:
            return False
    return True


def aftermath(world: World, drum: Drum) -> str:
    """How it ended: the exit code, and that nothing is left."""
    code = drum.exit_code()
    world.wait_until_empty()
    if drum.url:
        wait_for(lambda: port_is_free(drum), READY_SEC)
    return f"exit {code}, nothing left"


def ended(mode: dict[str, Any], number: signal.Signals) -> str:
    code = -number if number == signal.SIGKILL else 0 if mode.get("worker_class") else 130
    return f"exit {code}, nothing left"
