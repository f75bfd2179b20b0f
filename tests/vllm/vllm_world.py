"""Engines of the real vLLM for tests: the stand-in of NIM 3 under our own supervisor, and looks at what it does."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from edge_world import REPOSITORY, World
from fake_nim.run import free_port, wait_for
from vllm_nim.image import build_image

from nimdrum.engines.wire import CHAT_PATH
from nimdrum.engines.work import KNOWN, Work
from nimdrum.scoring.score import score_frame
from nimdrum.session.attach import Endpoint
from nimdrum.session.model import Model
from nimdrum.supervisor.probe import Address, look_at_work
from nimdrum.supervisor.state import EngineState

READY_SEC = 600.0
"""One start takes 80 s on two quiet cores."""
ANSWER_SEC = 300.0
STALL_SEC = 60
"""A first request with log probabilities was seen to take 16 s without a token."""
SLOTS = 8
MODEL = "smollm2"
PARAMETERS: dict[str, Any] = {
    "engine": "nim",
    "served_model_name": MODEL,
    "NIM_MAX_MODEL_LEN": 2048,
    "api_server_count": 1,
    "stall_timeout_sec": STALL_SEC,
    "max_watchdog_backoff_sec": 1,
}
"""What makes the engine of most tests: every process that asks for these shares it."""


class VllmWorld(World):
    """A world whose image holds vLLM, and whose code folder is the repository: DRUM and the tests share the engine."""

    @property
    def code_dir(self) -> Path:
        return REPOSITORY


@dataclass
class Engine:
    """One engine, and how tests use it."""

    world: World
    parameters: dict[str, Any] = field(default_factory=lambda: dict(PARAMETERS))

    def model(self, **parameters: Any) -> Model:
        """What `load_model` returns, ready. Parameters of rows make no other engine."""
        model = self.world.model(**{"system_prompt": "", **self.parameters, **parameters})
        model.ready(READY_SEC)
        return model

    def endpoint(self) -> Endpoint:
        """Where it is; waits while it starts again."""
        first = self.world.models[0] if self.world.models else self.model()
        return first.ready(READY_SEC)

    def state(self) -> EngineState:
        state = self.world.models[0].attachment.state()
        assert state is not None
        return state

    def log(self) -> str:
        return self.world.models[0].attachment.run_dir.log.read_text(encoding="utf-8", errors="replace")

    def work(self) -> Work:
        """What the supervisor sees of it."""
        at = self.endpoint()
        return look_at_work(Address(at.host, at.port, "/v1/health/ready", at.model, KNOWN))

    def wait_for_work(self, condition: Callable[[Work], bool]) -> None:
        """Until what it does is so."""
        wait_for(lambda: condition(self.work()), ANSWER_SEC)

    def processes(self, title: str) -> list[psutil.Process]:
        """Its processes that call themselves so: vLLM gives each a title."""
        pid = self.state().engine_pid
        assert pid is not None
        found = psutil.Process(pid).children(recursive=True)
        return [process for process in found if title.lower() in _title(process).lower()]

    @contextlib.contextmanager
    def in_flight(self, **fields: Any) -> Iterator[http.client.HTTPConnection]:
        """A chat that was sent to the engine itself and goes on for long; the caller hangs up at the end."""
        at = self.endpoint()
        connection = http.client.HTTPConnection(at.host, at.port, timeout=ANSWER_SEC)
        try:
            connection.request("POST", CHAT_PATH, json.dumps(long_chat(**fields)), {"Content-Type": "application/json"})
            yield connection
        finally:
            connection.close()


def long_chat(**fields: Any) -> dict[str, Any]:
    """A chat whose answer has 1500 tokens: minutes on two cores."""
    messages = [{"role": "user", "content": "Tell me of the sea."}]
    return {"model": MODEL, "messages": messages, "max_tokens": 1500, "temperature": 1, "ignore_eos": True, **fields}


def frame_of(prompts: list[str], **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"promptText": prompts, **columns}, dtype=object)


class Scoring(threading.Thread):
    """A batch in a thread of its own; `result` is its frame."""

    def __init__(self, frame: pd.DataFrame, model: Model) -> None:
        super().__init__(daemon=True)
        self._frame, self._model = frame, model
        self._out: pd.DataFrame | None = None

    def run(self) -> None:
        self._out = score_frame(self._frame, self._model)

    def result(self) -> pd.DataFrame:
        self.join(READY_SEC)
        assert self._out is not None, "the batch did not end, or ended in an error"
        return self._out


@contextlib.contextmanager
def vllm_world(
    folder: Path, installation: Path, kind: type[World] = VllmWorld, weights: Path | None = None, **environ: str
) -> Iterator[World]:
    """A world with the stand-in in its image. When it ends its engine is let go, and nothing may stay behind."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    world = kind(folder, {**keep, "NIM_BACKEND_PORT": str(free_port()), **environ})
    build_image(world.image_root, installation / "venv/bin/python", weights or installation / "weights")
    try:
        yield world
    finally:
        world.end()


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
