"""Fixtures for tests with real child processes: a small world in a temporary folder, and what it must leave behind."""

import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_nim.config import FakeNimConfig
from fake_nim.image import build_image
from fake_nim.run import read_lines, wait_for
from s3_server import CREDENTIAL

from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.plan import EngineKind
from nimdrum.session.attach import attach
from nimdrum.session.model import Model
from nimdrum.system.process import MARKER

REPOSITORY = Path(__file__).resolve().parents[2]
DRUM = Path(sys.executable).with_name("drum")
KEY = "nvapi-made-up-key-that-must-never-be-printed"
TOKEN = "made-up-datarobot-token-that-must-never-be-printed"
STORE_KEY = str(CREDENTIAL["awsSecretAccessKey"])
READY_SEC = 110.0
GONE_SEC = 40.0
RECORDS = "record"
MAY_HOLD_KEYS = {RECORDS, "image"}
"""Folders of the fake NIM: what it was told, and the environment that it writes down, keys included."""


@dataclasses.dataclass
class World:
    """A code folder, an image with a fake NIM, and the state folder, all below one temporary folder."""

    folder: Path
    environ: dict[str, str]
    drum: Path = DRUM
    models: list[Model] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.environ = {"NIM_CACHE_PATH": str(self.folder / "cache"), **self.environ}
        if not self.code_dir.exists():
            self.code_dir.mkdir(parents=True)
            shutil.copy(REPOSITORY / "model-metadata.yaml", self.code_dir)

    @property
    def code_dir(self) -> Path:
        return self.folder / "code"

    @property
    def image_root(self) -> Path:
        return self.folder / "image"

    @property
    def state_root(self) -> Path:
        return self.folder / "state"

    @property
    def record_dir(self) -> Path:
        return self.folder / RECORDS

    def fake(self, release: str = "", **switches: Any) -> Path:
        """Put a fake NIM with these switches into the image: one of `release`, or of a line alone."""
        config = FakeNimConfig.of(release) if release else FakeNimConfig(line=switches.get("line", "1.x"))
        return build_image(self.image_root, dataclasses.replace(config, record_dir=str(self.record_dir), **switches))

    def hosting(self, **changes: Any) -> Hosting:
        defaults: dict[str, Any] = {
            "code_dir": self.code_dir,
            "server": False,
            "gunicorn_master": None,
            "error_server": False,
            "target_column": "resultText",
            "request_timeout_sec": None,
            "drum_port": None,
            "image_root": self.image_root,
            "state_root": self.state_root,
            "environ": self.environ,
        }
        return Hosting(**{**defaults, **changes})

    def model(self, kinds: Sequence[EngineKind] | None = None, **parameters: Any) -> Model:
        """What `load_model` returns, from the same pieces but without DRUM. Released when the test ends."""
        hosting = self.hosting()
        settings = load_settings(hosting.code_dir, parameters.get)
        plan = plan_engine(settings, hosting, kinds)
        model = Model(settings, hosting, attach(plan, hosting.code_dir, self.state_root, None))
        self.models.append(model)
        return model

    def ready_model(self, kinds: Sequence[EngineKind] | None = None, **parameters: Any) -> Model:
        model = self.model(kinds, **parameters)
        model.ready(READY_SEC)
        return model

    def starts(self) -> list[dict[str, Any]]:
        """One record for each start of the fake NIM: its arguments, environment and process ids."""
        return read_lines(self.record_dir / "starts.jsonl")

    def requests(self) -> list[dict[str, Any]]:
        """One record for each completion that the fake NIM was asked for (with the switch record_requests)."""
        records = read_lines(self.record_dir / "requests.jsonl")
        return [record for record in records if record["path"] == "/v1/chat/completions"]

    def processes(self) -> list[psutil.Process]:
        """Living processes that belong to this world."""
        return [p for p in psutil.process_iter() if p.pid != os.getpid() and self._owns(p)]

    def running(self, word: str) -> list[psutil.Process]:
        """Those of them with `word` in their arguments."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it has just ended
                if word in process.cmdline():
                    found.append(process)
        return found

    def _owns(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            mark, told = str(self.folder), process.environ()
            mine = any(told.get(name, "").startswith(mark) for name in (MARKER, "NIMDRUM_STATE_DIR"))
            return mine or any(mark in argument for argument in process.cmdline())
        return False

    def wait_until_empty(self) -> None:
        """Until no process of this world is alive; AssertionError with the list when some stay."""
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not self.processes(), GONE_SEC)
        left = [(p.pid, p.cmdline()) for p in self.processes()]
        assert not left, f"processes left: {left}"

    def end(self) -> None:
        """Let its engines go, of which nothing may stay behind; what does is killed."""
        for model in self.models:
            model.attachment.release()
        try:
            self.wait_until_empty()
        finally:
            for process in self.processes():
                process.kill()


@pytest.fixture
def world(tmp_path: Path, clean_environ: dict[str, str]) -> Iterator[World]:
    """An empty world. When the test ends its engines are let go, and nothing may stay behind."""
    world = World(tmp_path, clean_environ)
    yield world
    world.end()


@pytest.fixture(autouse=True)
def no_key_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Looks for the tests' keys in everything that was printed, logged or written to a file."""
    yield
    out, err = capfd.readouterr()
    print(out, err)  # so that a failing test still shows it
    files = [p for p in tmp_path.rglob("*") if p.is_file() and not MAY_HOLD_KEYS & set(p.relative_to(tmp_path).parts)]
    texts = {"output": (out + err).encode(errors="replace"), "log records": caplog.text.encode(errors="replace")}
    texts |= {str(path): path.read_bytes() for path in files}
    for secret in (KEY, TOKEN, STORE_KEY):
        found = [name for name, text in texts.items() if secret.encode() in text]
        assert not found, f"a key was printed in {found}"
