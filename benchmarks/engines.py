"""The engines of the benchmarks on this machine: the fake NIM at a given speed, and llama.cpp."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common  # noqa: F401 - it makes the packages of this project and of its tests known


@dataclass(frozen=True)
class Case:
    """A fake NIM: its slots, its speed, and the length of answers and prompts."""

    slots: int
    seconds_per_token: float
    tokens: int
    prefill_sec: float = 0.0

    @property
    def rows_per_sec(self) -> float:
        """The most that it can answer."""
        return self.slots / (self.prefill_sec + self.seconds_per_token * self.tokens)


@contextlib.contextmanager
def fake(case: Case) -> Iterator[int]:
    """A fake NIM that does what `case` says, and its port."""
    from fake_nim.config import FakeNimConfig
    from fake_nim.run import fake_nim

    switches: dict[str, Any] = {
        **{"max_num_seqs": case.slots, "seconds_per_token": case.seconds_per_token},
        **{"answer_tokens": case.tokens, "prefill_sec": case.prefill_sec},
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        fake_nim(Path(folder), FakeNimConfig(line="2.x", **switches), env={"NIM_SERVED_MODEL_NAME": "fake"}) as running,
    ):
        yield running.port


@contextlib.contextmanager
def llamacpp() -> Iterator[int]:
    """The embedded engine, started as the supervisor starts it."""
    from fake_nim.run import free_port

    from nimdrum.engines.llamacpp import SERVER, embedded_model, slots

    port = free_port()
    line = [sys.executable, str(SERVER), "--model", str(embedded_model()), "--name", "smollm2", "--port", str(port)]
    line += ["--slots", str(slots(os.cpu_count() or 2)), "--context", "2048"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)
