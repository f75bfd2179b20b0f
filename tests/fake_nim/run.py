"""Start and stop the fake from a test, and ask it things.

Every wait has a deadline. Only processes of the fake itself are ended, by their ids.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .config import FakeNimConfig
from .image import build_image
from .process import GRANDCHILD_MARK

DEADLINE_SEC = 30.0
HOST = "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Running:
    """A started fake: its process, its port, and the file its stdout and stderr go to."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    record_dir: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own. `body` is sent as JSON unless it is bytes."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DEADLINE_SEC)
        try:
            connection.request(method, path, raw, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def chat(self, prompt: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        """One chat completion with a single user message."""
        body = {"model": "fake/model", "messages": [{"role": "user", "content": prompt}], **fields}
        return self.request("POST", "/v1/chat/completions", body, headers)

    def metric(self, name: str) -> float:
        """A value of the metrics page, by its name without "vllm:"."""
        for line in self.get("/v1/metrics").body.decode().splitlines():
            if line.startswith(f"vllm:{name}{{"):
                return float(line.rpartition(" ")[2])
        raise LookupError(name)

    def starts(self) -> list[dict[str, Any]]:
        return read_lines(self.record_dir / "starts.jsonl")

    def requests(self) -> list[dict[str, Any]]:
        return read_lines(self.record_dir / "requests.jsonl")

    def wait_ready(self) -> None:
        """Until ready says 200. RuntimeError with the log if the process ends, else TimeoutError."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the fake ended with {self.process.returncode}:\n{self.log[-2000:]}")
            try:
                return self.get("/v1/health/ready").status == 200
            except OSError:
                return False

        wait_for(ready)

    def wait_exit(self) -> int:
        """The exit code, as Popen gives it."""
        return self.process.wait(DEADLINE_SEC)


@contextlib.contextmanager
def fake_nim(
    folder: Path,
    config: FakeNimConfig | None = None,
    *,
    env: Mapping[str, str] | None = None,
    args: tuple[str, ...] = (),
    python: str = sys.executable,
    ready: bool = True,
) -> Iterator[Running]:
    """Build an image below `folder`, start it on a free port in a session of its own, stop it at the end.

    `env` is added to the environment; `ready=False` does not wait for it. Records go to `folder`/record
    unless the config names another place.
    """
    config = config or FakeNimConfig()
    if config.record_dir is None:
        config = dataclasses.replace(config, record_dir=str(folder / "record"))
    script = build_image(folder / "image", config, python=python)
    port = free_port()
    full_env = {**os.environ, "NIM_SERVER_PORT": str(port), **(env or {})}
    log_path = folder / "fake_nim.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [str(script), *args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=full_env,
            start_new_session=True,
        )
    running = Running(process, port, log_path, Path(config.record_dir or folder))
    try:
        if ready:
            running.wait_ready()
        yield running
    finally:
        stop(running)


def stop(running: Running) -> None:
    """Kill the fake and the grandchildren it wrote down, and reap it."""
    if running.process.poll() is None:
        os.killpg(running.process.pid, signal.SIGKILL)  # its own session, so its own group
    running.process.wait(DEADLINE_SEC)
    for start in running.starts():
        for pid in [start["pid"], *start["grandchildren"]]:
            if is_fake(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def is_fake(pid: int) -> bool:
    """Whether the process with this id is (still) one of the fake's; False for zombies and reused ids."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return GRANDCHILD_MARK in line or "fake_nim" in line


def wait_for(condition: Callable[[], bool], deadline_sec: float = DEADLINE_SEC) -> None:
    """Until the condition holds; TimeoutError at the deadline."""
    end = time.monotonic() + deadline_sec
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline_sec:g} s: {condition}")
        time.sleep(0.02)


def free_port() -> int:
    """A loopback port that nothing listened on a moment ago. It is below those that the kernel gives to others before
    it is taken."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_768)  # Hypothesis seeds the other one
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((HOST, port))
            return port


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a record file; empty while there is none. One that is just being written does not count yet."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
