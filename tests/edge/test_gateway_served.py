"""The gateway behind all that a person and a client of DRUM see: server modes, routes, doctor; and real engines."""

import contextlib
import json
from typing import Any

import openai
import pandas as pd
import pytest
import requests
import trustme
from drum_process import drum_server, parameters
from edge_world import READY_SEC, World
from elsewhere import elsewhere
from fake_nim.run import wait_for
from shell import Shell
from test_drum_server import MODES, predict
from test_gateway import CREDENTIAL, WRONG_KEY, ca, pem_of, secured, told_by_health  # noqa: F401 - a fixture

from nimdrum.scoring.score import score_frame

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "one two three"}]}


@pytest.mark.drum
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_every_server_mode_over_https(world: World, ca: trustme.CA, mode: dict[str, Any]) -> None:  # noqa: F811
    """Predictions, chat with streaming, models, pass-through, health with the count, metrics for each endpoint."""
    with secured(world, ca, seconds=0.01) as engine, elsewhere(seconds=0.01) as plain:
        urls = f"{engine.url} {plain.url}"
        given = {"engine": "external", "engine_urls": urls, "engine_credential": CREDENTIAL, "engine_ca": pem_of(ca)}
        with drum_server(world, **mode, **given) as drum:
            drum.wait_health(200)
            answer = predict(drum.url, "promptText\n007\nNA\n").json()
            assert answer["predictions"] == ["echo: 007", "echo: NA"]
            client = openai.OpenAI(base_url=f"{drum.url}/v1", api_key="none", max_retries=0)
            said = client.chat.completions.create(model="datarobot-deployed-llm", **ASK)
            assert said.choices[0].message.content == "echo: one two three"
            chunks = list(client.chat.completions.create(model="llama", stream=True, **ASK))
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "echo: one two three "
            assert [each.id for each in client.models.list()] == ["llama"]
            version = requests.get(f"{drum.url}/nim/v1/version", timeout=READY_SEC)
            assert version.json() == {"release": "elsewhere"}
            wait_for(lambda: drum.wait_health(200).json()["endpoints"] == "2 of 2 endpoints answer", READY_SEC)
            told = {f'gateway_endpoint_up{{endpoint="{engine.url}"}} 1', "nimdrum_engine_metrics_up 1"}
            page = f"{drum.url}/metrics"  # without the gateway's where that does not come within 2 s
            wait_for(lambda: told <= set(requests.get(page, timeout=READY_SEC).text.splitlines()), READY_SEC)


def test_doctor_looks_at_each_endpoint(world: World, shell: Shell, ca: trustme.CA) -> None:  # noqa: F811
    """Before the start, with the sentence that the start would give."""
    with secured(world, ca) as engine:
        given = {"engine": "external", "engine_urls": engine.url, "engine_ca": pem_of(ca)}
        assert finding(shell, **given, engine_credential=CREDENTIAL) == ("ok", f"{engine.url} serves llama")
        level, message = finding(shell, **given, **WRONG_KEY)
        assert level == "problem"
        assert "refuses the key (401 at /v1/models)" in message


def finding(shell: Shell, **given: Any) -> tuple[str, str]:
    done = shell.run("doctor", "--json", "--code-dir", str(shell.world.code_dir), environ=parameters(**given))
    (found,) = (each for each in json.loads(done.stdout)["findings"] if each["name"] == "endpoints")
    return found["level"], found["message"]


@pytest.mark.engine
@pytest.mark.xdist_group("engine")
def test_two_real_engines_are_one(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """llama.cpp twice on loopback: one file of answers, each engine gave some of them."""
    with contextlib.ExitStack() as stack:
        others = [World(tmp_path_factory.mktemp("engine"), dict(world.environ)) for _ in range(2)]
        urls = []
        for other in others:
            urls.append(other.ready_model(engine="llamacpp").ready(READY_SEC).url)
            stack.callback(other.models[0].attachment.release, READY_SEC)
        given = {"engine": "external", "engine_urls": " ".join(urls), "DR_NIM_HEALTH_ROUTE": "/health"}
        model = world.ready_model(**given, max_tokens=8, temperature=0)
        wait_for(lambda: told_by_health(model) == "2 of 2 endpoints answer", READY_SEC)
        rows = pd.DataFrame({"promptText": [f"Name one animal. {i}" for i in range(40)]}, dtype=object)
        out = score_frame(rows, model)
        assert set(out["row_error"]) == {""}
        assert all(out["resultText"])
        state = model.attachment.state()
        assert state is not None
        page = requests.get(f"{state.url}/metrics", timeout=READY_SEC).text
        answered = [line for line in page.splitlines() if line.startswith("gateway_endpoint_answered_total{")]
        assert len(answered) == 2
        assert all(float(line.rpartition(" ")[2]) > 0 for line in answered), answered
