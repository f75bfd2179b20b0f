"""A running container of our image, as the tests see it: its health, its log, how it ends."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from bases import CONFIG_AT, fake_config
from fake_nim.run import wait_for
from sandbox import INSIDE, Sandbox

GRACE_SEC = 30  # of Kubernetes
WAIT_SEC = 120.0
LOCKED_DOWN = ("--cap-drop=all", "--security-opt=no-new-privileges")
READ_ONLY = ("--read-only", "--read-only-tmpfs=false")
SIGTERMED = 143
SIGKILLED = 137


@dataclass
class Container:
    """One `podman run` of our image. `started` is of the monotonic clock."""

    sandbox: Sandbox
    id: str
    started: float

    @property
    def url(self) -> str:
        return "http://" + self.sandbox.podman("port", self.id, "8080/tcp")

    @property
    def log(self) -> str:
        done = self.sandbox.run("podman", "logs", self.id)
        return done.stdout + done.stderr

    @property
    def running(self) -> bool:
        return self._state("Running") == "true"

    def execute(self, *command: str) -> str:
        return self.sandbox.podman("exec", self.id, *command)

    def finish_loading(self) -> None:
        """Let the fake NIM become ready."""
        self.execute("touch", "/tmp/loaded")

    def health(self) -> requests.Response | None:
        """The answer of /health/; None while nobody listens."""
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/health/", timeout=WAIT_SEC)
        return None

    def wait_health(self, status: int) -> requests.Response:
        """Until /health/ answers `status`; AssertionError with the log when the container ends before, or in time."""
        answer: list[requests.Response | None] = [None]

        def there() -> bool:
            if not self.running:
                return True
            answer[0] = self.health()
            return answer[0] is not None and answer[0].status_code == status

        with contextlib.suppress(TimeoutError):
            wait_for(there, WAIT_SEC)
        assert answer[0] is not None, self.log[-4000:]
        assert answer[0].status_code == status, f"{answer[0].status_code} {answer[0].text}\n{self.log[-4000:]}"
        return answer[0]

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=WAIT_SEC)

    def post(self, path: str, **body: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=WAIT_SEC, **body)

    def stop(self) -> tuple[int, float]:
        """SIGTERM, and SIGKILL after the grace period: the exit code (137: it was needed), and the seconds it took."""
        before = time.monotonic()
        self.sandbox.podman("stop", f"--time={GRACE_SEC}", self.id)
        return self.exit_code(), time.monotonic() - before

    def exit_code(self) -> int:
        """Wait for its end. AssertionError with the log when it does not come."""
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not self.running, WAIT_SEC)
        assert not self.running, self.log[-4000:]
        return int(self._state("ExitCode"))

    def _state(self, name: str) -> str:
        return self.sandbox.podman("inspect", "--format", f"{{{{.State.{name}}}}}", self.id)


@contextlib.contextmanager
def run_image(
    sandbox: Sandbox, image: str, *options: str, line: str = "", command: tuple[str, ...] = (), **switches: Any
) -> Iterator[Container]:
    """`podman run` with `options`, port 8080 published on loopback; removed at the end.

    With `line`, the fake NIM is one of that line with these `switches`, instead of the image's own.
    """
    if line:
        config = sandbox.folder / "tmp" / "fake_nim.json"
        config.write_text(fake_config(line, **switches).to_json(), encoding="utf-8")
        options = (*options, f"--volume={INSIDE}/tmp/fake_nim.json:{CONFIG_AT}:ro")
    network = ("--network=slirp4netns", "--publish=127.0.0.1::8080", "--http-proxy=false")
    started = time.monotonic()
    # --passwd=false: podman would add a line for an unknown uid, as OpenShift does, and Docker and Kubernetes do not.
    id = sandbox.podman("run", "--detach", "--passwd=false", *network, *LOCKED_DOWN, *options, image, *command)
    try:
        yield Container(sandbox, id, started)
    finally:
        sandbox.podman("rm", "--force", "--time=0", "--volumes", id)


def runtime_parameter(name: str, kind: str, payload: object) -> str:
    """The option that sets a runtime parameter, in the form in which DataRobot passes it."""
    return f"--env=MLOPS_RUNTIME_PARAM_{name}={json.dumps({'type': kind, 'payload': payload})}"


def tmpfs(path: str | Path, *options: str) -> str:
    """An empty folder in memory that any user may write, as an emptyDir of Kubernetes is."""
    return f"--tmpfs={path}:" + ",".join(("rw", "exec", "mode=1777", *(options or ("notmpcopyup",))))
