"""The HTTP face in real servers over the fake NIM: states, refusals, callers that leave, engines that die."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import psutil
import pytest
import requests
from drum_process import Drum, drum_server
from edge_world import KEY, READY_SEC, World
from fake_nim.run import read_lines, wait_for

from nimdrum.supervisor.state import Phase, read_state, write_state
from nimdrum.web.health import ROUTES

pytestmark = pytest.mark.drum

STATUS = {Phase.RUNNING: 200, Phase.FATAL: 513}  # all others: 503
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hello there"}]}
SERVERS = pytest.mark.parametrize("worker_class", ["", "gevent"], ids=["werkzeug", "gunicorn"])


def client_of(drum: Drum) -> openai.OpenAI:
    return openai.OpenAI(base_url=drum.url, api_key=KEY, timeout=READY_SEC, max_retries=0)


def asked(world: World) -> list[dict[str, Any]]:
    """What the engine was asked for, other than by the supervisor."""
    requests_seen = read_lines(world.record_dir / "requests.jsonl")
    return [request for request in requests_seen if {"via", "x-request-id"} & request["headers"].keys()]


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process stands still but keeps its locks."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@SERVERS
def test_health_in_every_state_of_the_supervisor(world: World, worker_class: str) -> None:
    """Each state, told by the state file of a supervisor that stands still; FATAL last, it ends the watch."""
    world.environ["WITH_ERROR_SERVER"] = "1"
    world.fake()
    with drum_server(world, worker_class=worker_class) as drum:
        drum.wait_health(200)
        (path,) = world.state_root.glob("*/state.json")
        real = read_state(path)
        assert real is not None
        with frozen(real.supervisor_pid):
            walk_the_states(drum, path)
            write_state(path, real)


def walk_the_states(drum: Drum, path: Path) -> None:
    """Write every state and look at every route."""
    state = read_state(path)
    assert state is not None
    facts = {**vars(state), "cause": "The disk is full.", "last_lines": ("Traceback (most recent call last):",)}
    for phase in sorted(Phase, key=lambda phase: phase is Phase.FATAL):
        write_state(path, type(state)(**{**facts, "phase": phase}))
        for route in ROUTES:
            answer = requests.get(drum.url + route, timeout=READY_SEC)
            assert answer.status_code == STATUS.get(phase, 503), (phase, route)
            assert "Traceback" not in answer.text
        assert ("The disk is full." in answer.text) == (phase is not Phase.RUNNING)
    for answer in (
        requests.post(f"{drum.url}/predict/", data="promptText\nhello\n", timeout=READY_SEC),
        requests.post(f"{drum.url}/v1/chat/completions", json=ASK, timeout=READY_SEC),
        requests.get(f"{drum.url}/v1/models", timeout=READY_SEC),
        requests.get(f"{drum.url}/nim/v1/models", timeout=READY_SEC),
    ):
        assert (answer.status_code, "Retry-After" in answer.headers) == (513, False), answer.url
        assert "The disk is full." in answer.text
        assert "Traceback" not in answer.text
    path.unlink()
    assert requests.get(f"{drum.url}/health/", timeout=READY_SEC).status_code == 503


def test_refusals_and_fields(world: World) -> None:
    """A wrong name is the engine's 404; fields go through, DataRobot's do not; nothing of ours is added or leaked."""
    world.fake(line="2.x", record_requests=True)
    with drum_server(world, worker_class="gevent", max_tokens=5, system_prompt="Leak!", temperature=0.5) as drum:
        drum.wait_health(200)
        client = client_of(drum)
        with pytest.raises(openai.NotFoundError, match="does not exist") as wrong:
            client.chat.completions.create(model="another", **ASK)
        assert isinstance(wrong.value.body, dict)
        assert wrong.value.body["type"] == "NotFoundError"
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="another", stream=True, **ASK)
        extra = {"datarobot_association_id": "7", "datarobot_metrics": {"a": 1}, "my_field": {"deep": [1]}}
        headers = {"X-Request-Id": "abc-1", "X-DataRobot-Api-Token": KEY}
        answer = client.chat.completions.create(model="", extra_body=extra, extra_headers=headers, **ASK)
        assert answer.id.startswith("chatcmpl-abc-1-")
        told = asked(world)[-1]
        assert told["body"] == {**ASK, "model": "datarobot-deployed-llm", "my_field": {"deep": [1]}}
        assert told["headers"]["x-request-id"].startswith("abc-1-")
        assert KEY not in json.dumps(told)
        models = requests.get(f"{drum.url}/nim/v1/models", headers={"Authorization": KEY}, timeout=READY_SEC)
        assert models.json()["data"][0]["max_model_len"] == 4096
        assert KEY not in json.dumps(asked(world)[-1])
        rows = {"X": ("rows.csv", "promptText\none\ntwo\n")}
        requests.post(f"{drum.url}/predict/", files=rows, headers={"X-Request-Id": "batch"}, timeout=READY_SEC)
        ids = {request["headers"]["x-request-id"] for request in world.requests()[-2:]}
        assert len(ids) == 2  # one for each row
        assert all(row_id.startswith("batch-") for row_id in ids)
        for path in ("/nim/v1/..%2f..%2fx", "/nim/%252e%252e/x"):
            assert requests.get(drum.url + path, timeout=READY_SEC).status_code == 400
        metrics = requests.get(f"{drum.url}/metrics", timeout=READY_SEC).text
        assert 'nimdrum_requests_total{route="chat",status="404"} 2' in metrics
        page = f"{drum.url}/metrics"  # without the engine's where that does not come within 2 s
        wait_for(lambda: "vllm:num_requests_running" in requests.get(page, timeout=READY_SEC).text, READY_SEC)
        drum.wait_for_line("engine.facts")
        facts = next(line for line in drum.printed.splitlines() if "engine.facts" in line)
        assert "version=2.0.5" in facts
        assert "max_model_len=4096" in facts


@pytest.mark.parametrize("worker_class", ["", "sync", "gevent"], ids=["werkzeug", "gunicorn sync", "gunicorn gevent"])
def test_callers_that_leave_and_an_engine_that_dies(world: World, worker_class: str) -> None:
    """A caller that goes away frees the engine's slots, with chat and with rows; an engine killed in mid-stream ends in
    an error event; then the next engine answers."""
    world.fake(seconds_per_token=0.02, answer_tokens=3000, record_requests=True)
    with drum_server(world, worker_class=worker_class) as drum:
        drum.wait_health(200)
        for left, stream in enumerate((False, True), start=1):
            leave(world, drum, "/v1/chat/completions", "application/json", json.dumps({**ASK, "stream": stream}))
            wait_for(lambda left=left: len(asked(world)) == left, READY_SEC)  # type: ignore[misc]
        leave(world, drum, "/predict/", "text/csv", "promptText\nrow one\nrow two\n", at_work=2)
        wait_for(lambda: len(asked(world)) == 4, READY_SEC)
        assert [request["complete"] for request in asked(world)] == [False] * 4
        with pytest.raises(openai.APIError, match="broke off") as broken:
            for number, _ in enumerate(client_of(drum).chat.completions.create(model="", stream=True, **ASK)):
                if number == 3:
                    os.kill(world.starts()[-1]["pid"], signal.SIGKILL)
        assert isinstance(broken.value.body, dict)
        assert broken.value.body["type"] == "engine_unavailable"
        drum.wait_health(200)
        answer = client_of(drum).chat.completions.create(model="", max_tokens=3, **ASK)
        assert answer.choices[0].message.content
        assert len(world.starts()) == 2


def leave(world: World, drum: Drum, path: str, content_type: str, text: str, at_work: int = 1) -> None:
    """Send a request and hang up once the engine works on it (on all its rows), in a stream after its first event."""
    where = urlsplit(drum.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=READY_SEC) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(text)}\r\n\r\n"
        connection.sendall((head + text).encode())
        if '"stream": true' in text:
            connection.recv(1000)
        wait_for(lambda: running(world) >= at_work, READY_SEC)


def running(world: World) -> float:
    """How many requests the engine works on."""
    (path,) = world.state_root.glob("*/state.json")
    state = read_state(path)
    assert state is not None
    page = requests.get(f"{state.url}/v1/metrics", timeout=READY_SEC).text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("vllm:num_requests_running"))
