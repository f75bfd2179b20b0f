"""Engines elsewhere, through the gateway: https, a key, a prefix, several at once, and each way to get it wrong."""

import contextlib
import datetime
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
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
