"""A hundred blows at random, seeded: whatever is killed while 2,000 rows are scored, every row is answered once."""

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from typing import Any

import pandas as pd
import psutil
import pytest
import requests
from conftest import Case
from drum_process import Drum, drum_server
from edge_world import READY_SEC, World
from fake_nim.run import wait_for

from nimdrum.scoring.score import score_frame
from nimdrum.supervisor.state import Phase, read_state

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

ROWS = 2000
BATCH = 50
KILLS = 100
SEED = 20261122


def kill(pid: int | None) -> bool:
    """SIGKILL; whether there was anybody to kill."""
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


class Killer:
    """Kills a random one of the world's processes each time the engine is ready, until it has killed enough."""

    def __init__(self, world: World, drum: Drum, chance: random.Random) -> None:
        self._world, self._drum, self._chance = world, drum, chance
        self.done = Counter[str]()
        self.finished = threading.Event()

    def run(self) -> None:
        while sum(self.done.values()) < KILLS and not self.finished.is_set():
            wait_for(lambda: self._running() or self.finished.is_set(), READY_SEC)
            self.finished.wait(self._chance.uniform(0.2, 1.2))
            what = self._chance.choice(("engine", "worker", "supervisor"))
            if kill(self._pid_of(what)):
                self.done[what] += 1

    def _running(self) -> bool:
        state = read_state(next(self._world.state_root.glob("*/state.json"), self._world.folder))
        return state is not None and state.phase is Phase.RUNNING and psutil.pid_exists(state.supervisor_pid)

    def _pid_of(self, what: str) -> int | None:
        state = read_state(next(self._world.state_root.glob("*/state.json"), self._world.folder))
        if what == "worker":
            workers = [p.pid for p in psutil.Process(self._drum.process.pid).children()]
            return self._chance.choice(workers) if workers else None
        return (state.engine_pid if what == "engine" else state.supervisor_pid) if state else None


def predict(drum: Drum, rows: list[str]) -> list[str]:
    """The answers to one batch, sent again as a whole when its worker was killed: all or nothing."""
    for _ in range(KILLS):
        with contextlib.suppress(
            requests.RequestException
        ):  # the worker was killed, perhaps in the middle of its answer
            body = "promptText\n" + "".join(f"{row}\n" for row in rows)
            reply = requests.post(f"{drum.url}/predict/", files={"X": ("x.csv", body)}, timeout=READY_SEC * 3)
            if reply.status_code == 200:
                return [str(text) for text in reply.json()["predictions"]]
            assert reply.status_code in (500, 503), reply.text  # gunicorn answers 500 for a worker that was killed
        drum.wait_health(200)
    raise AssertionError("a batch was never answered")


@pytest.mark.parametrize("case_name", [f"{KILLS} kills over HTTP"], ids=str)
def test_a_hundred_kills_during_2000_rows(world: World, case: Case, case_name: str) -> None:
    """Engine, worker or supervisor killed a hundred times: 2,000 rows in, 2,000 right answers out."""
    world.fake(line="2.x", seconds_per_token=0.02, answer_tokens=5)
    rows = [f"row {i}" for i in range(ROWS)]
    limits: dict[str, Any] = {"max_watchdog_restarts": 1000, "max_watchdog_backoff_sec": 1, "stop_timeout_sec": 1}
    answers: list[str] = []
    with drum_server(world, worker_class="sync", workers=2, max_concurrency=16, **limits) as drum:
        drum.wait_health(200)
        killer = Killer(world, drum, random.Random(SEED))
        thread = threading.Thread(target=killer.run)
        thread.start()
        try:
            batch = 0
            while len(answers) < ROWS or thread.is_alive():  # rows go on until the last kill has been dealt
                at = batch * BATCH % ROWS
                got = predict(drum, rows[at : at + BATCH])
                answers = answers + got if len(answers) < ROWS else answers
                assert [text.split()[:3] for text in got] == [["echo:", "row", str(i)] for i in range(at, at + BATCH)]
                batch += 1
        finally:
            killer.finished.set()
            thread.join(READY_SEC)
        drum.process.send_signal(signal.SIGTERM)
        code = drum.exit_code()
    world.wait_until_empty()
    print("killed:", dict(killer.done), "rows scored:", batch * BATCH, "engine starts:", len(world.starts()))
    case.check(
        f"{ROWS} rows answered once, {KILLS} kills, exit 0, nothing left",
        f"{len(answers)} rows answered once, {sum(killer.done.values())} kills, exit {code}, nothing left",
    )


@pytest.mark.parametrize("case_name", ["20 kills in one call"], ids=str)
def test_kills_during_one_call_of_score(world: World, case: Case, case_name: str) -> None:
    """One call of score over 2,000 rows while engine and supervisor are killed in turn: no row notices."""
    world.fake(line="1.x", seconds_per_token=0.02, answer_tokens=5)
    model = world.ready_model(
        max_concurrency=16, max_watchdog_restarts=1000, max_watchdog_backoff_sec=1, stop_timeout_sec=1
    )
    chance = random.Random(SEED)
    finished = threading.Event()
    killed = 0

    def killer() -> None:
        nonlocal killed
        while killed < 20 and not finished.wait(chance.uniform(0.2, 1.2)):
            state = model.attachment.state()
            if state is not None and state.phase is Phase.RUNNING:
                killed += kill(chance.choice((state.engine_pid, state.supervisor_pid)))

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        out = score_frame(pd.DataFrame({"promptText": [f"row {i}" for i in range(ROWS)]}, dtype=object), model)
    finally:
        finished.set()
        thread.join(READY_SEC)
    right = sum(text.split()[:3] == ["echo:", "row", str(i)] for i, text in enumerate(out["resultText"]))
    print("kills:", killed, "engine starts:", len(world.starts()))
    case.check(
        f"{ROWS} rows right, none failed",
        f"{right} rows right, {'none' if not any(out['row_error']) else 'some'} failed",
    )
