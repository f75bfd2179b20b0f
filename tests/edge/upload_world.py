"""Fixtures for tests of `upload`: a DataRobot on loopback, a small project, and a run of the command in this process."""

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_datarobot.server import FakeDataRobot, running

from nimdrum.base.errors import UploadError
from nimdrum.tools.terminal import Terminal
from nimdrum.tools.upload.command import upload
from nimdrum.tools.upload.context import Patience
from nimdrum.tools.upload.options import upload_with

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "made-up-token-of-a-datarobot-user"
NGC_KEY = "nvapi-made-up-key-that-goes-into-one-request"
PROJECT = "Dockerfile .dockerignore env_info.json requirements.txt requirements/build.txt LICENSE README.md model-metadata.yaml pyproject.toml start_server.sh"
FAST = Patience(max_wait_sec=60, poll_sec=0, retries=1, backoff_sec=0, sleep=lambda seconds: None)
DEPLOY = ("--image-uri", "registry.example.com/nimdrum@sha256:1", "--deploy")


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    text: str


@dataclass
class UploadWorld:
    """`run` is the command with these arguments, without the waits between its looks at DataRobot."""

    fake: FakeDataRobot
    code_dir: Path
    environ: dict[str, str]

    def run(self, *arguments: str, patience: Patience = FAST) -> Outcome:
        options = upload.make_context("upload", list(arguments)).params
        output, terminal, exit_code = io.StringIO(), Terminal(), 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                upload_with(options, terminal, self.environ, patience, self.code_dir)
            except UploadError as error:
                terminal.say(f"Error: {error}", err=True)
                exit_code = error.exit_code
        text = output.getvalue()
        for secret in (TOKEN, NGC_KEY):
            assert secret not in text
        return Outcome(exit_code, text)

    def parameters(self, text: str) -> str:
        path = self.code_dir.parent / "parameters.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)


@pytest.fixture
def code_dir(tmp_path: Path) -> Path:
    """The project's own files, with one module in the place of the package."""
    root = tmp_path / "project"
    (root / "nimdrum").mkdir(parents=True)
    for name in PROJECT.split():
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copy(REPOSITORY / "nimdrum/__init__.py", root / "nimdrum")
    return root


@pytest.fixture
def fake() -> Iterator[FakeDataRobot]:
    """A DataRobot in which nothing is there. No test may send it what it does not know."""
    with running(FakeDataRobot(TOKEN)) as server:
        yield server
    assert server.broken == []


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Points the client, which reads the environment itself, to an endpoint; the developer's own settings are out."""
    for name in ("DATAROBOT_CONFIG_FILE", "DATAROBOT_ENDPOINT", "DATAROBOT_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def point_to(endpoint: str) -> None:
        monkeypatch.setenv("DATAROBOT_ENDPOINT", endpoint)
        monkeypatch.setenv("DATAROBOT_API_TOKEN", TOKEN)
        # For it the client reads the source of the whole call stack, pytest's too, at each request.
        monkeypatch.setenv("DATAROBOT_API_CONSUMER_TRACKING_ENABLED", "false")

    return point_to


@pytest.fixture
def upload_world(fake: FakeDataRobot, code_dir: Path, at_home: Callable[[str], None]) -> UploadWorld:
    at_home(fake.endpoint)
    return UploadWorld(fake, code_dir, {"NGC_API_KEY": NGC_KEY})
