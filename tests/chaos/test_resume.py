"""`nimdrum score` killed again and again, and its supervisor and engine, and resumed: one file, each row once, in order.

NIMDRUM_RESUME_ROWS=20000 NIMDRUM_RESUME_KILLS=20 python -m pytest -n 0 tests/chaos/test_resume.py
"""

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
from edge_world import READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for

from nimdrum.supervisor.state import Phase, read_state

pytestmark = [pytest.mark.chaos, pytest.mark.drum, pytest.mark.timeout(1800)]

ROWS = int(os.environ.get("NIMDRUM_RESUME_ROWS", "3000"))
KILLS = int(os.environ.get("NIMDRUM_RESUME_KILLS", "4"))
SEED = int(os.environ.get("NIMDRUM_RESUME_SEED", "20261130"))
IN_FLIGHT = 4
"""What a kill loses; with so few in flight each row is written at once. With so many kills in so few rows it must be
small for the bound below."""
WHAT = ("command", "all of it", "engine", "supervisor")
MOST_TWICE = 0.01


class Progress:
    """How many rows a journal holds, read on as it grows."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._read, self.rows = journal, 0, -1  # the header is a line too

    def look(self) -> int:
        with contextlib.suppress(FileNotFoundError), self._journal.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            self._read += len(new)
            self.rows += new.count(b"\n")
        return self.rows


def victims(world: World, command: int, what: str) -> list[int | None]:
    state = read_state(next(world.state_root.glob("*/state.json"), world.folder))
    engine, supervisor = (state.engine_pid, state.supervisor_pid) if state else (None, None)
    return {
        "command": [command],
        "all of it": [command, supervisor, engine],
        "engine": [engine],
        "supervisor": [supervisor],
    }[what]


def running(world: World) -> bool:
    state = read_state(next(world.state_root.glob("*/state.json"), world.folder))
    return state is not None and state.phase is Phase.RUNNING and psutil.pid_exists(state.supervisor_pid)


def test_killed_again_and_again(world: World) -> None:
    """At random instants: command, supervisor, engine, or all at once. In the end every row is there once, in its
    place, and of all rows at most one in a hundred was asked twice."""
    world.fake(line="2.x", seconds_per_token=0.002, answer_tokens=4, record_requests=True)
    prompts = [f"row {number}" for number in range(ROWS)]
    prompts[1::100] = ["the same"] * len(prompts[1::100])  # rows with one request are rows of their own
    (world.folder / "rows.csv").write_text("promptText\n" + "".join(f"{prompt}\n" for prompt in prompts))
    output = world.folder / "answers.csv"
    chance = random.Random(SEED)
    instants = sorted(chance.sample(range(ROWS // 2), KILLS))  # the end may come while this process stands still
    progress = Progress(world.folder / "answers.csv.journal")
    killed = Counter[str]()
    settings = {"max_concurrency": IN_FLIGHT, "max_watchdog_restarts": 1000, "stop_timeout_sec": 1}
    arguments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environ = {
        **world.environ,
        "PYTHONPATH": str(REPOSITORY),
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
    }
    command = [sys.executable, "-m", "nimdrum", "score", "rows.csv", "-o", "answers.csv", "--resume", *arguments]
    code = None
    while code is None or code < 0:
        with subprocess.Popen(command, env=environ, cwd=world.folder, stderr=subprocess.PIPE, text=True) as process:
            try:
                while instants:
                    at = instants[0]
                    wait_for(lambda: progress.look() >= at or process.poll() is not None, READY_SEC)  # noqa: B023
                    if process.poll() is not None:
                        break
                    what = chance.choice(WHAT)
                    if what in ("engine", "supervisor"):
                        wait_for(lambda: running(world) or process.poll() is not None, READY_SEC)
                    instants.pop(0)
                    killed[what] += 1
                    for pid in victims(world, process.pid, what):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid or 0, signal.SIGKILL) if pid else None
                    if what in ("command", "all of it"):
                        break
                _, errors = process.communicate(timeout=1500)
                code = process.returncode
            finally:
                process.kill()
    assert code == 0, errors
    world.wait_until_empty()
    # The fake writes a request down when it ends: what it had in flight when it was killed comes on top.
    lost = IN_FLIGHT * (KILLS - killed["command"])
    twice = len(world.requests()) - ROWS
    print("killed:", dict(killed), f"asked twice: {twice}, and at most {lost} more, of {ROWS}")
    with output.open(newline="") as file:
        answers = [row["Predictions"] for row in csv.DictReader(file)]
    assert [" ".join(text.split()[:3]) for text in answers] == [f"echo: {prompt}" for prompt in prompts]
    assert sum(killed.values()) == KILLS
    assert twice >= 0
    assert twice + lost <= max(ROWS * MOST_TWICE, KILLS * IN_FLIGHT * 2)
    assert sorted(path.name for path in world.folder.glob("*answers*")) == ["answers.csv"]
