"""Every mode of DRUM times every ending: the right exit code, no process, no port, no lost row, no needless restart.

Each case is one DRUM process with the fake NIM, which has a child that ignores SIGTERM and left the process group.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drum_process
import psutil
import pytest
import requests
from conftest import Case
from drum_process import SERVERS, Drum, aftermath, ended
from edge_world import READY_SEC, World
from fake_nim.run import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

GUNICORN = {name: mode for name, mode in SERVERS.items() if mode.get("worker_class")}
CHILDREN = {"grandchildren": 1, "grandchildren_ignore_sigterm": True, "grandchildren_own_session": True}


def cases(modes: dict[str, Any], actions: dict[str, Any]) -> Any:
    """A parameter set for each mode and action, called "<mode>: <action>"."""
    return pytest.mark.parametrize(
        ("mode", "action"),
        [pytest.param(mode, action, id=f"{m}: {a}") for a, action in actions.items() for m, mode in modes.items()],
    )


def drum_server(world: World, **arguments: Any) -> Any:
    """The child that ignores SIGTERM makes every stop last until SIGKILL, so that one comes soon."""
    return drum_process.drum_server(world, **arguments, stop_timeout_sec=1)


def fake(world: World, **switches: Any) -> None:
    world.fake(line="2.x", **{**CHILDREN, **switches})


def answer(drum: Drum) -> str:
    """What one row gets, in a word."""
    reply = requests.post(f"{drum.url}/predict/", files={"X": ("x.csv", "promptText\nhello\n")}, timeout=READY_SEC)
    return "answered" if reply.status_code == 200 and reply.json()["predictions"] == ["echo: hello"] else reply.text


SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGKILL": signal.SIGKILL}


@cases(SERVERS, SIGNALS)
def test_a_running_server_is_ended(world: World, case: Case, mode: dict[str, Any], action: signal.Signals) -> None:
    """The signal goes to DRUM's main process while the engine serves."""
    fake(world)
    with drum_server(world, **mode) as drum:
        drum.wait_health(200)
        drum.process.send_signal(action)
        case.check(ended(mode, action), aftermath(world, drum))


@cases(SERVERS, {f"{name} while loading": number for name, number in SIGNALS.items()})
def test_a_loading_server_is_ended(world: World, case: Case, mode: dict[str, Any], action: signal.Signals) -> None:
    """The signal comes while the engine loads: gunicorn alone would sit it out for five minutes."""
    fake(world, never_ready=True)
    with drum_server(world, **mode) as drum:
        drum.wait_health(503)
        wait_for(lambda: bool(world.starts()), READY_SEC)
        drum.process.send_signal(action)
        case.check(ended(mode, action), aftermath(world, drum))


@cases(GUNICORN, {"SIGKILL while booting": signal.SIGKILL})
def test_a_booting_server_is_ended(world: World, case: Case, mode: dict[str, Any], action: signal.Signals) -> None:
    """The master dies while its workers still import: they must not take init for the master, which never ends."""
    fake(world)
    with drum_server(world, **mode) as drum:
        drum.wait_for_line("Booting worker")
        drum.process.send_signal(action)
        case.check(ended(mode, action), aftermath(world, drum))


@cases(SERVERS, {"start fails": {}})
def test_a_start_that_fails(world: World, case: Case, mode: dict[str, Any], action: dict[str, Any]) -> None:
    """The engine dies before it was ready: the server ends with 3 and the cause is in its log."""
    fake(world, die_before_ready=True, last_lines=("No space left on device",))
    with drum_server(world, **mode) as drum:
        seen = aftermath(world, drum)
        case.check(
            "exit 3, nothing left, cause told", f"{seen}{', cause told' if 'disk is full' in drum.printed else ''}"
        )


@cases(SERVERS, {"bad parameter": {}})
def test_a_bad_parameter(world: World, case: Case, mode: dict[str, Any], action: dict[str, Any]) -> None:
    """load_model fails before anything starts."""
    fake(world)
    code = 3 if mode.get("worker_class") else 1
    with drum_server(world, **mode, temperature=9) as drum:
        case.check(f"exit {code}, nothing left", aftermath(world, drum))
    assert world.starts() == []


def kill_engine(world: World, drum: Drum) -> None:
    os.kill(world.starts()[-1]["pid"], signal.SIGKILL)


def kill_grandchild(world: World, drum: Drum) -> None:
    os.kill(world.starts()[-1]["grandchildren"][0], signal.SIGKILL)


def kill_supervisor(world: World, drum: Drum) -> None:
    (supervisor,) = world.running("nimdrum.supervisor")
    supervisor.kill()


def workers_of(drum: Drum) -> list[psutil.Process]:
    return [p for p in psutil.Process(drum.process.pid).children() if "gunicorn" in " ".join(p.cmdline())]


def signal_workers(drum: Drum, number: signal.Signals) -> None:
    before = workers_of(drum)
    for worker in before:
        worker.send_signal(number)
    wait_for(lambda: not any(worker.is_running() for worker in before), READY_SEC)


def abort_workers(world: World, drum: Drum) -> None:
    signal_workers(drum, signal.SIGABRT)  # what gunicorn sends at a time-out


def kill_workers(world: World, drum: Drum) -> None:
    signal_workers(drum, signal.SIGKILL)


def reload_workers(world: World, drum: Drum) -> None:
    before = workers_of(drum)
    drum.process.send_signal(signal.SIGHUP)
    wait_for(lambda: not any(worker.is_running() for worker in before), READY_SEC)


def survives(world: World, case: Case, mode: dict[str, Any], blow: Callable[[World, Drum], None], starts: int) -> None:
    fake(world)
    with drum_server(world, **mode, max_watchdog_backoff_sec=1) as drum:
        drum.wait_health(200)
        first = answer(drum)
        # All workers: one that is aborted in the middle of an import has "failed to boot", and gunicorn ends.
        workers = mode.get("workers", 1) if mode.get("worker_class") else 1
        wait_for(lambda: drum.printed.count("http.ready") >= workers, READY_SEC)
        blow(world, drum)
        wait_for(lambda: len(world.starts()) >= starts, READY_SEC)
        drum.wait_health(200)
        second = answer(drum)
        seen = f"{first}, {second}, engine started {len(world.starts())} times"
        drum.process.send_signal(signal.SIGTERM)
        case.check(
            f"answered, answered, engine started {starts} times, {ended(mode, signal.SIGTERM)}",
            f"{seen}, {aftermath(world, drum)}",
        )


@cases(
    SERVERS,
    {
        "engine killed": (kill_engine, 2),
        "engine's child killed": (kill_grandchild, 1),
        "supervisor killed": (kill_supervisor, 2),
    },
)
def test_a_blow_to_the_engine_is_survived(world: World, case: Case, mode: dict[str, Any], action: Any) -> None:
    """The server goes on serving; only what must be started again is."""
    survives(world, case, mode, *action)


@cases(
    GUNICORN,
    {
        "workers killed": (kill_workers, 1),
        "workers aborted": (abort_workers, 1),
        "workers reloaded": (reload_workers, 1),
    },
)
def test_replaced_workers_find_the_same_engine(world: World, case: Case, mode: dict[str, Any], action: Any) -> None:
    """gunicorn replaces its workers; the engine neither stops nor starts."""
    survives(world, case, mode, *action)


@cases(GUNICORN, {"workers recycled": {"DRUM_GUNICORN_MAX_REQUESTS": 2}})
def test_recycled_workers_find_the_same_engine(
    world: World, case: Case, mode: dict[str, Any], action: dict[str, Any]
) -> None:
    """A worker that ends cleanly after two requests is not a goodbye: its engine stays."""
    fake(world)
    with drum_server(world, **mode, **action) as drum:
        drum.wait_health(200)
        answers = []
        for _ in range(4):
            wait_for(lambda: (reply := drum.health()) is not None and reply.status_code == 200, READY_SEC)
            answers.append(try_answer(drum))
        drum.process.send_signal(signal.SIGTERM)
        case.check(
            f"some answered, engine started 1 times, {ended(mode, signal.SIGTERM)}",
            f"{'some answered' if 'answered' in answers else answers}, engine started {len(world.starts())} times, "
            f"{aftermath(world, drum)}",
        )


def try_answer(drum: Drum) -> str:
    try:
        return answer(drum)
    except requests.ConnectionError:
        return "connection lost"  # the worker that had accepted it ended: gunicorn's way of recycling


@cases({name: mode for name, mode in GUNICORN.items() if name.startswith("sync")}, {"request over time": {}})
def test_a_request_over_the_workers_time(world: World, case: Case, mode: dict[str, Any], action: Any) -> None:
    """Rows that would outlast DRUM's worker time-out end as row errors before the worker is killed."""
    fake(world, hang_prompts_containing="hang")
    with drum_server(world, **mode, DRUM_CLIENT_REQUEST_TIMEOUT=20) as drum:
        drum.wait_health(200)
        for _ in range(4):  # what a worker does for its first request takes of the same time
            answer(drum)
        rows = {"X": ("x.csv", "promptText\nhello\nhang\n")}
        reply = requests.post(f"{drum.url}/predict/", files=rows, timeout=READY_SEC).json()
        kinds = [row[0].partition(":")[0] for row in reply["extraModelOutput"]["data"]]
        drum.process.send_signal(signal.SIGTERM)
        case.check(
            f"{['echo: hello', '']} {['', 'timed_out']}, {ended(mode, signal.SIGTERM)}",
            f"{reply['predictions']} {kinds}, {aftermath(world, drum)}",
        )


@cases(SERVERS, {"SIGTERM in a request": {}})
def test_a_request_in_flight_at_sigterm(world: World, case: Case, mode: dict[str, Any], action: Any) -> None:
    """gunicorn finishes the request; werkzeug drops it. The engine outlives the request and no more."""
    # A forking werkzeug leaves the request to its child, which may or may not be done when the engine goes.
    seconds = 10 if mode.get("worker_class") else 5 if mode else 30
    fake(world, answer_tokens=1, seconds_per_token=seconds, record_requests=True)
    with drum_server(world, **mode) as drum:
        drum.wait_health(200)
        outcome: list[str] = []

        def ask() -> None:
            rows = {"X": ("x.csv", "promptText\nhello\n")}
            try:
                outcome.append(str(requests.post(f"{drum.url}/predict/", files=rows, timeout=READY_SEC).status_code))
            except requests.ConnectionError:
                outcome.append("dropped")

        client = threading.Thread(target=ask)
        client.start()
        metrics = f"http://127.0.0.1:{engine_port(world)}/v1/metrics"
        wait_for(
            lambda: (
                'num_requests_running{engine="0"' in (page := requests.get(metrics, timeout=READY_SEC).text)
                and any(
                    line.startswith("vllm:num_requests_running") and not line.endswith(" 0.0")
                    for line in page.splitlines()
                )
            ),
            READY_SEC,
        )
        drum.process.send_signal(signal.SIGTERM)
        seen = aftermath(world, drum)
        client.join(READY_SEC)
        expected = "200" if mode.get("worker_class") else "dropped" if not mode else outcome[0]
        case.check(f"{expected}, {ended(mode, signal.SIGTERM)}", f"{outcome[0]}, {seen}")


def engine_port(world: World) -> str:
    return str(world.starts()[-1]["env"]["NIM_SERVER_PORT"])


SCORE: dict[str, tuple[dict[str, Any], str, str]] = {
    # name: switches of the fake, what happens, expected
    "success": ({}, "", "exit 0, nothing left, 30 rows"),
    "a bad row": ({"poison": "prompt 7"}, "", "exit 0, nothing left, 30 rows"),
    "missing column": ({}, "column", "exit 1, nothing left, 0 rows"),
    "start fails": ({"die_before_ready": True}, "", "exit 1, nothing left, 0 rows"),
    "SIGTERM": ({"seconds_per_token": 60}, "SIGTERM", "exit 130, nothing left, 0 rows"),
    "SIGINT": ({"seconds_per_token": 60}, "SIGINT", "exit 130, nothing left, 0 rows"),
    "SIGKILL": ({"seconds_per_token": 60}, "SIGKILL", "exit -9, nothing left, 0 rows"),
    "SIGTERM while loading": ({"never_ready": True}, "SIGTERM", "exit 130, nothing left, 0 rows"),
    "SIGINT while loading": ({"never_ready": True}, "SIGINT", "exit 130, nothing left, 0 rows"),
    "SIGKILL while loading": ({"never_ready": True}, "SIGKILL", "exit -9, nothing left, 0 rows"),
    "engine killed": ({"seconds_per_token": 0.4}, "engine", "exit 0, nothing left, 30 rows"),
    "engine's child killed": ({"seconds_per_token": 0.4}, "grandchild", "exit 0, nothing left, 30 rows"),
    "supervisor killed": ({"seconds_per_token": 0.4}, "supervisor", "exit 0, nothing left, 30 rows"),
}
BLOWS = {"engine": kill_engine, "grandchild": kill_grandchild, "supervisor": kill_supervisor}


@pytest.mark.parametrize("name", SCORE, ids=[f"score: {name}" for name in SCORE])
def test_drum_score_in_every_ending(world: World, case: Case, tmp_path: Path, name: str) -> None:
    """Every row comes back or the command fails as a whole; nothing is left either way."""
    switches, happening, expected = SCORE[name]
    fake(world, **switches)
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    column = "other" if happening == "column" else "promptText"
    rows.write_text(column + "\n" + "".join(f"prompt {i} of 30\n" for i in range(30)))
    settings = {"max_concurrency": 4, "max_watchdog_backoff_sec": 1, "stop_timeout_sec": 1}
    with drum_process.drum_score(world, rows, output, **settings) as drum:
        if happening and happening != "column":
            loading = switches.get("never_ready")
            wait_for(lambda: bool(world.starts()), READY_SEC) if loading else drum.wait_for_line("engine.attached")
            if happening in BLOWS:
                BLOWS[happening](world, drum)
            else:
                drum.process.send_signal(SIGNALS[happening])
        seen = aftermath(world, drum)
    answers = output.read_text().count("echo: ") if output.exists() else 0
    answers += output.read_text().count("refused: ") if output.exists() else 0
    case.check(expected, f"{seen}, {answers} rows")
