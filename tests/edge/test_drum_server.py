"""`drum server` in each of its modes: truthful health, the same answers, one engine, and an end that is one."""

import contextlib
import json
import os
import signal
from http.client import HTTPConnection
from typing import Any

import pytest
import requests
from drum_process import drum_server
from edge_world import READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for

pytestmark = pytest.mark.drum

MODES: dict[str, dict[str, Any]] = {
    "werkzeug": {},
    "werkzeug forking": {"workers": 3},
    "gunicorn sync": {"worker_class": "sync", "workers": 2},
    "gunicorn gevent": {"worker_class": "gevent"},
}


def predict(url: str, csv_text: str) -> requests.Response:
    return requests.post(f"{url}/predict/", files={"X": ("rows.csv", csv_text)}, timeout=READY_SEC)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_predictions_in_every_server_mode(world: World, mode: dict[str, Any]) -> None:
    """Loading says 503, then 200; rows are answered in order; bad input is a 400; SIGTERM leaves nothing."""
    loaded = world.folder / "loaded"
    world.fake(line="2.x", load_until=str(loaded))
    with drum_server(world, **mode) as drum:
        loading = drum.wait_health(503)
        assert loading.headers["Retry-After"]
        assert "STARTING" in loading.json()["message"]
        loaded.touch()
        drum.wait_health(200)
        for route in ("/", "/ping/", "/ping"):
            assert requests.get(drum.url + route, timeout=READY_SEC).status_code == 200
        answer = predict(drum.url, "promptText\n007\nNA\nhello, world\n").json()
        assert answer["predictions"] == ["echo: 007", "echo: NA", "echo: hello, world"]
        assert answer["extraModelOutput"]["columns"][0] == "row_error"
        bad = predict(drum.url, "question\nwhat?\n")
        assert (bad.status_code, bad.headers["X-Drum-User-Http-Error"]) == (400, "true")
        assert "Columns found: question" in bad.json()["message"]
        assert len(world.starts()) == 1  # one engine, however many workers
        drum.process.send_signal(signal.SIGTERM)
        drum.exit_code()
        world.wait_until_empty()


@pytest.mark.engine
@pytest.mark.xdist_group("engine")
def test_the_examples_over_http_and_a_chat(world: World) -> None:
    """The real model behind gunicorn and gevent: the 20 examples over /predict/, one chat, one stream, the models."""
    rows = (REPOSITORY / "examples" / "prompts.csv").read_text(encoding="utf-8")
    with drum_server(world, worker_class="gevent", max_tokens=8, temperature=0) as drum:
        drum.wait_health(200)
        answer = predict(drum.url, rows).json()
        assert len(answer["predictions"]) == 20
        assert all(text.strip() for text in answer["predictions"])
        models = requests.get(f"{drum.url}/v1/models", timeout=READY_SEC).json()
        assert [model["id"] for model in models["data"]] == ["datarobot-deployed-llm"]
        ask = {
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 8,
            "datarobot_association_id": "7",
        }
        chat = requests.post(f"{drum.url}/v1/chat/completions", json=ask, timeout=READY_SEC)
        assert chat.json()["choices"][0]["message"]["content"].strip()
        stream = requests.post(f"{drum.url}/v1/chat/completions", json={**ask, "stream": True}, timeout=READY_SEC)
        assert stream.text.rstrip().endswith("data: [DONE]")


def test_a_request_that_comes_early_waits_for_the_engine(world: World) -> None:
    """A prediction sent while the engine loads is answered when it is ready, not refused."""
    loaded = world.folder / "loaded"
    world.fake(line="1.x", load_until=str(loaded))
    with drum_server(world, worker_class="gevent") as drum:
        drum.wait_health(503)
        connection = HTTPConnection(drum.url.removeprefix("http://"), timeout=READY_SEC)
        with contextlib.closing(connection):
            connection.request("POST", "/predict/", "promptText\nearly\n", {"Content-Type": "text/csv"})
            drum.wait_health(503)  # its connection came later, so the server has had the prediction before
            loaded.touch()
            assert json.load(connection.getresponse())["predictions"] == ["echo: early"]


@pytest.mark.parametrize("worker_class", ["", "sync"], ids=["werkzeug", "gunicorn"])
def test_a_dead_engine_ends_the_server(world: World, worker_class: str) -> None:
    """An engine that is given up ends the container with code 3 and the cause in the log: nobody is served a corpse."""
    world.fake(die_before_ready=True, last_lines=("No space left on device",))
    with drum_server(world, worker_class=worker_class) as drum:
        assert drum.exit_code() == 3, drum.printed
    assert "The disk is full" in drum.printed
    world.wait_until_empty()


@pytest.mark.parametrize("worker_class", ["", "sync", "gevent"], ids=["werkzeug", "gunicorn sync", "gunicorn gevent"])
def test_a_dead_engine_does_not_take_the_answers_along(world: World, worker_class: str) -> None:
    """A batch in which the engine dies for good is still answered, with what there is; only then the server ends."""
    world.fake(crash_after=20, seconds_per_token=0.01)
    with drum_server(world, worker_class=worker_class, max_concurrency=4, max_watchdog_restarts=0) as drum:
        drum.wait_health(200)
        answer = predict(drum.url, "promptText\n" + "a prompt\n" * 2000)
        assert answer.status_code == 200
        assert answer.json()["predictions"].count("echo: a prompt") == 20
        assert drum.exit_code() == 3, drum.printed


def test_with_the_error_server_the_cause_stays_readable(world: World) -> None:
    """DRUM's error server was asked for: health answers 513 with the cause instead."""
    world.environ["WITH_ERROR_SERVER"] = "1"
    world.fake(die_before_ready=True, last_lines=("No space left on device",))
    with drum_server(world, worker_class="gevent") as drum:
        assert "The disk is full" in drum.wait_health(513).json()["message"]


def test_a_killed_worker_is_replaced_and_the_engine_stays(world: World) -> None:
    """gunicorn replaces a worker that was killed; the new one attaches to the engine that never stopped."""
    world.fake()
    with drum_server(world, worker_class="sync", workers=2) as drum:
        drum.wait_health(200)
        import psutil

        workers = [p for p in psutil.Process(drum.process.pid).children() if "gunicorn" in " ".join(p.cmdline())]
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: not any(worker.is_running() for worker in workers), READY_SEC)
        drum.wait_health(200)
        assert predict(drum.url, "promptText\nagain\n").json()["predictions"] == ["echo: again"]
        assert len(world.starts()) == 1
