"""Engines elsewhere, through the gateway: https, a key, a prefix, several at once, and each way to get it wrong."""

import contextlib
import datetime
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
import trustme
from edge_world import KEY, READY_SEC, World
from elsewhere import Started, elsewhere
from fake_nim.run import free_port, wait_for

from nimdrum.base.errors import EngineStartError, EngineUnavailableError
from nimdrum.scoring.score import score_frame
from nimdrum.session.model import Model
from nimdrum.supervisor.state import Phase
from nimdrum.web.health import health

PREFIX = "/api/v2/endpoints/workloads/0123"
CREDENTIAL = {"credentialType": "api_token", "apiToken": KEY}


def frame_of(count: int) -> pd.DataFrame:
    return pd.DataFrame({"promptText": [f"prompt {i}" for i in range(count)]}, dtype=object)


def assert_all_answered(out: pd.DataFrame) -> None:
    assert set(out["row_error"]) == {""}, set(out["row_error"])
    assert out["resultText"].tolist() == [f"echo: prompt {i}" for i in range(len(out))]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def chain_of(ca: trustme.CA, path: Path, *names: str, **options: Any) -> str:
    """A certificate with its key, in a folder that may hold keys."""
    path.parent.mkdir(exist_ok=True)
    ca.issue_cert(*names, **options).private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@contextlib.contextmanager
def secured(
    world: World, ca: trustme.CA, name: str = "localhost", expired: bool = False, **switches: Any
) -> Iterator[Started]:
    """An engine behind TLS, a key and a prefix."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    options = {"not_before": past, "not_after": past + datetime.timedelta(days=1)} if expired else {}
    chain = chain_of(ca, world.record_dir / "chain.pem", name, **options)
    with elsewhere(**{"chain": chain, "key": KEY, "prefix": PREFIX, **switches}) as started:
        yield started


def pem_of(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


def model_of(world: World, *engines: Started, **parameters: Any) -> Model:
    urls = " ".join(engine.url for engine in engines)
    return world.model(**{"engine": "external", "engine_urls": urls, **parameters})


def gateway_of(model: Model) -> str:
    state = model.attachment.state()
    assert state is not None
    return state.url


def figures(model: Model, name: str) -> dict[str, float]:
    """One figure of each endpoint, as the gateway's metrics page tells it."""
    page = requests.get(f"{gateway_of(model)}/metrics", timeout=READY_SEC).text
    lines = [line for line in page.splitlines() if line.startswith(f"gateway_endpoint_{name}{{")]
    return {line.partition('="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_rows_go_over_https_with_key_and_prefix(world: World, ca: trustme.CA) -> None:
    """All are answered in order, each by one request; the token of the start is the only other."""
    with secured(world, ca) as engine:
        model = model_of(world, engine, engine_credential=CREDENTIAL, engine_ca=pem_of(ca))
        assert model.ready(READY_SEC).model == "llama"
        assert_all_answered(score_frame(frame_of(200), model))
        assert engine.record()["chats"] == 201
        assert "x-request-id" in engine.record()["heads"][-1]


WRONG_KEY = {"engine_credential": {**CREDENTIAL, "apiToken": f"wrong-{KEY}"}}
WRONG = {
    "key": ({}, WRONG_KEY, "refuses the key (401 at /v1/models)"),
    "no key": ({}, {"engine_credential": None}, "refuses the key (401 at /v1/models)"),
    "header": ({"header": "X-Team: a"}, {"engine_headers": '{"X-Team": "b"}'}, "refuses the key (403 at /v1/models)"),
    "key for chats only": ({"open_models": True, "health": False}, WRONG_KEY, "refuses the key (401 at /v1/chat"),
    "expired": ({"expired": True}, {}, "has expired. Renew it"),
    "another name": ({"name": "other.example"}, {}, "is for another name"),
    "unknown CA": ({}, {"engine_ca": None}, "Give its CA in engine_ca"),
    "no TLS there": ({"chain": ""}, {}, "no TLS with https://localhost"),
}


@pytest.mark.parametrize(("switches", "parameters", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_configured_wrong_is_told_at_once(
    world: World, ca: trustme.CA, switches: dict[str, Any], parameters: dict[str, Any], sentence: str
) -> None:
    """One sentence with the address, and no second try; the key, which the engine repeats, is in none of it."""
    with secured(world, ca, repeats_key=True, **switches) as engine:
        url = engine.url.replace("http:", "https:")
        right = {"engine_credential": CREDENTIAL, "engine_ca": pem_of(ca)}
        model = world.model(**{"engine": "external", "engine_urls": url, **right, **parameters})
        with pytest.raises(EngineStartError) as failure:
            model.ready(READY_SEC)
        assert sentence in str(failure.value)
        assert f"https://localhost:{engine.switches.port}" in str(failure.value)
        state = model.attachment.state()
        assert state is not None
        assert (state.phase, state.restarts) == (Phase.FATAL, 0)


def test_a_refused_connection_is_named_while_it_is_waited_for(world: World) -> None:
    """In what health answers, and in the error of whoever waited; once the engine listens it is ready."""
    port = free_port()
    model = world.model(engine="external", engine_urls=f"http://localhost:{port}/nim")
    said = f"connection refused at http://localhost:{port}/nim"
    wait_for(lambda: said in str(health(model.attachment.state())[0]), READY_SEC)
    with pytest.raises(EngineUnavailableError, match=said):
        model.ready(0.5)
    with elsewhere(port=port, prefix="/nim"):
        assert model.ready(READY_SEC).model == "llama"


def test_four_endpoints_are_one_engine(world: World) -> None:
    """All get rows, a quick one more than a slow one; health has the count, also when one has gone, and status tells it."""
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(elsewhere(seconds=each)) for each in (0.05, 0.05, 0.05, 1.0)]
        model = model_of(world, *engines)
        model.ready(READY_SEC)
        wait_for(lambda: told_by_health(model) == "4 of 4 endpoints answer", READY_SEC)
        assert_all_answered(score_frame(frame_of(1500), model))
        chats = [engine.record()["chats"] for engine in engines]
        assert sum(chats) == 1500
        assert sum(chats[:3]) > 3 * chats[3] > 0
        engines[0].kill()
        away = f"3 of 4 endpoints answer: connection refused at {engines[0].url}"
        wait_for(lambda: told_by_health(model).startswith(away), READY_SEC)
        assert health(model.attachment.state())[1] == 200
        assert list(figures(model, "up").values()) == [0, 1, 1, 1]


def told_by_health(model: Model) -> str:
    return str(health(model.attachment.state())[0].get("endpoints", ""))


def test_rows_of_an_endpoint_that_dies_go_to_another(world: World) -> None:
    """Killed with rows in flight: each is answered all the same, and when it is back it works again."""
    with elsewhere(seconds=0.3) as stays, elsewhere(seconds=0.3) as dies:
        model = model_of(world, stays, dies)
        model.ready(READY_SEC)
        wait_for(lambda: set(figures(model, "up").values()) == {1}, READY_SEC)
        killer = threading.Timer(0.0, lambda: (wait_for(lambda: "chats" in dies.record(), READY_SEC), dies.kill()))
        killer.start()
        assert_all_answered(score_frame(frame_of(300), model))
        killer.join()
        wait_for(lambda: 0 in figures(model, "up").values(), READY_SEC)
        dies.start_again()
        wait_for(lambda: set(figures(model, "up").values()) == {1}, READY_SEC)
        assert_all_answered(score_frame(frame_of(200), model))
        assert dies.record()["answered"] > 0


def test_callers_see_nothing_of_an_endpoint_that_dies(world: World) -> None:
    """Of those that ask the gateway itself, without anybody who would ask again: killed with forty requests in flight."""
    with elsewhere(seconds=0.5) as stays, elsewhere(seconds=0.5) as dies:
        model = model_of(world, stays, dies)
        model.ready(READY_SEC)
        wait_for(lambda: set(figures(model, "up").values()) == {1}, READY_SEC)
        url = f"{gateway_of(model)}/v1/chat/completions"

        def ask(number: int) -> str:
            body = {"model": "llama", "messages": [{"role": "user", "content": str(number)}]}
            answer = requests.post(url, json=body, timeout=READY_SEC).json()
            return str(answer["choices"][0]["message"]["content"])

        with ThreadPoolExecutor(40) as pool:
            answers = [pool.submit(ask, number) for number in range(40)]
            wait_for(lambda: "chats" in dies.record(), READY_SEC)
            dies.kill()
            assert [each.result() for each in answers] == [f"echo: {number}" for number in range(40)]


def test_one_that_answers_503_for_a_while_gets_few_rows_meanwhile(world: World) -> None:
    """No row fails; the others work on. It is moody half of the time, and its 503 come at once: driven on, it would give
    many more of them than answers."""
    with elsewhere(seconds=0.05) as well, elsewhere(seconds=0.05, bad_every_sec=6.0, bad_sec=3.0) as moody:
        model = model_of(world, well, moody)
        model.ready(READY_SEC)
        assert_all_answered(score_frame(frame_of(3000), model))
        record = moody.record()
        assert record.get("bad", 0) < record["answered"]


def test_all_gone_and_back(world: World) -> None:
    """Rows wait while no endpoint answers; the gateway is not restarted for it."""
    with elsewhere(seconds=0.1) as engine:
        model = model_of(world, engine)
        model.ready(READY_SEC)
        engine.kill()
        wait_for(lambda: (s := model.attachment.state()) is not None and s.phase is Phase.STARTING, READY_SEC)
        rows = threading.Thread(target=lambda: outs.append(score_frame(frame_of(50), model)))
        outs: list[pd.DataFrame] = []
        rows.start()
        engine.start_again()
        rows.join(READY_SEC)
        assert_all_answered(outs[0])
        state = model.attachment.state()
        assert state is not None
        assert state.restarts == 0


def test_an_endpoint_may_have_another_name_for_the_model(world: World) -> None:
    """Named behind its URL; callers use one name. One that lists another model by itself gets nothing."""
    with elsewhere(model="llama") as first, elsewhere(model="meta/llama") as second, elsewhere(model="other") as third:
        urls = f"{first.url}, {second.url}#model=meta/llama\n{third.url}"
        model = world.model(engine="external", engine_urls=urls, served_model_name="llama")
        assert model.ready(READY_SEC).model == "llama"
        wait_for(lambda: list(figures(model, "up").values()) == [1, 1, 0], READY_SEC)
        assert_all_answered(score_frame(frame_of(200), model))
        assert second.record()["answered"] > 0
        assert "chats" not in third.record()
        wait_for(lambda: "lists other, not llama" in told_by_health(model), READY_SEC)


def test_an_endpoint_that_promises_its_answers(world: World) -> None:
    """As NVIDIA's hosted ones do: 202 and a page to poll; no health route, no metrics."""
    with elsewhere(key=KEY, health=False, metrics=False, delayed=True, seconds=0.5) as engine:
        model = model_of(world, engine, engine_credential=CREDENTIAL)
        model.ready(READY_SEC)
        assert_all_answered(score_frame(frame_of(60), model))
        assert engine.record()["polls"] >= 60


def test_a_refusal_for_hours_is_passed_on(world: World) -> None:
    """Nobody waits for that: the caller is told, with the time, and the endpoint is left alone meanwhile."""
    with elsewhere(closed_for=7200) as engine:
        model = model_of(world, engine)
        model.ready(READY_SEC)
        ask = {"model": "llama", "messages": [{"role": "user", "content": "one"}]}
        answer = requests.post(f"{gateway_of(model)}/v1/chat/completions", json=ask, timeout=READY_SEC)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7200")
        assert "quota" in answer.text
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(f"{gateway_of(model)}/v1/chat/completions", json=ask, timeout=1)
        assert engine.record()["chats"] == 1


def test_a_stream_comes_through_and_one_that_is_left_is_cancelled(world: World) -> None:
    """Event by event, and the endpoint is free as soon as the caller has gone."""
    with elsewhere(seconds=0.2) as engine:
        model = model_of(world, engine)
        model.ready(READY_SEC)
        ask = {"model": "llama", "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
        url = f"{gateway_of(model)}/v1/chat/completions"
        with requests.post(url, json=ask, stream=True, timeout=READY_SEC) as answer:
            events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith(b"data: {")]
        assert "".join(each["choices"][0]["delta"]["content"] for each in events) == "echo: one two three "
        ask["messages"] = [{"role": "user", "content": "word " * 200}]
        with requests.post(url, json=ask, stream=True, timeout=READY_SEC) as answer:
            next(answer.iter_lines())
        wait_for(lambda: engine.record().get("cancelled", 0) == 1, READY_SEC)
        assert set(figures(model, "in_flight").values()) == {0}


def test_a_stream_that_breaks_off_breaks_off(world: World) -> None:
    """What was begun is not begun again elsewhere: its caller has a part of it already."""
    with elsewhere(seconds=0.01, dies_streaming=True) as engine:
        model = model_of(world, engine)
        model.ready(READY_SEC)
        ask = {"model": "llama", "stream": True, "messages": [{"role": "user", "content": "one two"}]}
        answer = requests.post(f"{gateway_of(model)}/v1/chat/completions", json=ask, stream=True, timeout=READY_SEC)
        with pytest.raises(requests.exceptions.RequestException):
            list(answer.iter_lines())
        assert engine.record()["chats"] == 1


SECRETS = {f"X-Secret-{i}": f"made-up-value-{i}-{KEY}" for i in range(19)}


def test_keys_and_headers_are_nowhere(world: World, ca: trustme.CA) -> None:
    """Twenty of them, to an endpoint that repeats what it refuses: not in a command line, a log, a state, an error, a page
    (the world looks at files and output)."""
    with secured(world, ca, repeats_key=True) as engine:
        credential = {"engine_credential": CREDENTIAL, "engine_headers": json.dumps(SECRETS)}
        model = model_of(world, engine, engine_ca=pem_of(ca), **credential)
        model.ready(READY_SEC)
        assert_all_answered(score_frame(frame_of(20), model))
        sent = engine.record()["heads"][-1]
        assert {name: sent[name.lower()] for name in SECRETS} == SECRETS
        pages = [requests.get(f"{gateway_of(model)}{path}", timeout=READY_SEC).text for path in GATEWAY_PAGES]
        lines = [" ".join(process.cmdline()) for process in world.processes()]
        assert len(lines) >= 2
        texts = [*pages, *lines, model.attachment.run_dir.state.read_text(), repr(model.attachment.plan)]
        assert not [text for text in texts if KEY in text]


GATEWAY_PAGES = ("/v1/health/ready", "/v1/models", "/metrics", "/v1/version", "/nowhere")


def test_a_gateway_that_is_killed_is_started_again(world: World) -> None:
    """As an engine is; its rows are sent again."""
    with elsewhere(seconds=0.2) as engine:
        model = model_of(world, engine, max_watchdog_backoff_sec=1)
        model.ready(READY_SEC)

        def kill() -> None:
            wait_for(lambda: "chats" in engine.record(), READY_SEC)
            state = model.attachment.state()
            assert state is not None
            assert state.engine_pid is not None
            os.kill(state.engine_pid, signal.SIGKILL)

        killer = threading.Timer(0.0, kill)
        killer.start()
        assert_all_answered(score_frame(frame_of(300), model))
        killer.join()
        wait_for(lambda: (state := model.attachment.state()) is not None and state.restarts == 1, READY_SEC)


def test_a_proxy_is_used_for_what_is_not_loopback(world: World) -> None:
    """And its absence is named."""
    world.environ["HTTP_PROXY"] = f"http://user:{KEY}@127.0.0.1:{free_port()}"
    with elsewhere() as engine:
        assert_all_answered(score_frame(frame_of(20), model_of(world, engine)))
    model = world.model(engine="external", engine_urls="http://llm.invalid:8000")
    wait_for(lambda: "the proxy before http://llm.invalid:8000" in str(health(model.attachment.state())[0]), READY_SEC)
