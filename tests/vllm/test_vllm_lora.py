"""LoRA on the real vLLM: adapters fetched before the start and while it runs, listed, and heard in the answers. The same
engine sends its spans to a collector."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_world import World
from fake_nim.run import wait_for
from lora_adapter import write_adapter
from otlp_receiver import Received, otlp_receiver
from vllm_world import ANSWER_SEC, MODEL, PARAMETERS, Engine, frame_of, vllm_world

from nimdrum.base.errors import ChatError
from nimdrum.engines.wire import CHAT_PATH, MODELS_PATH
from nimdrum.scoring.score import score_frame
from nimdrum.web.chat import complete, list_models

REFRESH_SEC = 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Path:
    """A folder of a store, with one adapter in it."""
    folder = tmp_path_factory.mktemp("store") / "loras"
    write_adapter(folder / "pirate", installation / "weights", seed=1)
    return folder


@pytest.fixture(scope="module")
def collector() -> Iterator[Received]:
    with otlp_receiver() as received:
        yield received


@pytest.fixture(scope="module")
def tuned(
    installation: Path, store: Path, collector: Received, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine whose adapters are fetched from there, in a code folder of its own."""
    environ = {
        "NIM_PEFT_REFRESH_INTERVAL": str(REFRESH_SEC),
        "NIM_PASSTHROUGH_ARGS": f"--otlp-traces-endpoint {collector.url}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "the engine",
    }
    with vllm_world(tmp_path_factory.mktemp("lora"), installation, World, **environ) as world:
        fetch = {"model_artifacts_uri": f"file://{store}/", "model_artifacts_target": "adapters"}
        engine = Engine(world, {**PARAMETERS, "api_server_count": 0, **fetch})
        engine.model()
        yield engine


def request(engine: Engine, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """The engine's own answer, without anything of ours in between."""
    at = engine.endpoint()
    connection = http.client.HTTPConnection(at.host, at.port, timeout=ANSWER_SEC)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def listed(engine: Engine) -> list[str]:
    return [model["id"] for model in json.loads(request(engine, "GET", MODELS_PATH)[1])["data"]]


def answer_of(engine: Engine, model: str) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    status, text = request(engine, "POST", CHAT_PATH, body)
    assert status == 200, text
    content: str = json.loads(text)["choices"][0]["message"]["content"]
    return content


def test_a_fetched_adapter_is_listed_and_heard(tuned: Engine) -> None:
    """The base model stays the one that DRUM's clients get; the adapter's name brings its own answers."""
    assert listed(tuned) == [MODEL, "pirate"]
    assert tuned.endpoint().model == MODEL
    assert [model.id for model in list_models(tuned.model())] == [MODEL, "pirate"]
    assert "Paris" in answer_of(tuned, MODEL)
    assert "Paris" not in answer_of(tuned, "pirate")


def test_an_unknown_adapter_is_the_engines_404(tuned: Engine) -> None:
    """It names the model; what a row says of it is decided there."""
    status, text = request(
        tuned, "POST", CHAT_PATH, {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}
    )
    assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")


def test_a_row_and_a_chat_choose_an_adapter(tuned: Engine) -> None:
    """By its name. One that is not there costs its row and a chat, and both are told those that are."""
    ask = "What is the capital of France?"
    model = tuned.model(max_tokens=12, temperature=0, per_row_columns=True)
    out = score_frame(frame_of([ask] * 3, model=["pirate", "silent", "pirate"]), model)
    assert out["resultText"].tolist() == [answer_of(tuned, "pirate"), "", answer_of(tuned, "pirate")]
    told = f"unknown_model: the engine has no model 'silent'; there are: {MODEL}, pirate"
    assert out["row_error"].tolist() == ["", told, ""]
    plain = score_frame(frame_of([ask] * 2, model=["", "datarobot-deployed-llm"]), model)
    assert plain["resultText"].tolist() == [answer_of(tuned, MODEL)] * 2
    chat = {"messages": [{"role": "user", "content": ask}], "max_tokens": 12, "temperature": 0}
    assert complete({**chat, "model": "pirate"}, model).choices[0].message.content == out["resultText"][0]
    with pytest.raises(ChatError, match=f"There are: {MODEL}, pirate"):
        complete({**chat, "model": "silent"}, model)


def test_an_adapter_that_is_added_to_the_store_is_there_without_a_restart(
    tuned: Engine, store: Path, installation: Path
) -> None:
    """Fetched and verified by the supervisor, loaded by NIM's watcher (here the stand-in's) through vLLM's own route."""
    write_adapter(store.parent / "coming", installation / "weights", seed=2)
    (store.parent / "coming").rename(store / "poet")
    wait_for(lambda: "poet" in listed(tuned), ANSWER_SEC)
    answers = {answer_of(tuned, name) for name in (MODEL, "pirate", "poet")}
    assert len(answers) == 3
    assert tuned.state().restarts == 0


def test_otel_variables_reach_it(tuned: Engine, collector: Received) -> None:
    """Its span arrives under the service's name of the container, in the trace that the request came with: nimdrum sends
    that header with each chat that DRUM traces."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    request(tuned, "POST", CHAT_PATH, body, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    wait_for(lambda: any(span.trace_id == trace for span in list(collector.spans)), ANSWER_SEC)
    (span,) = [span for span in collector.spans if span.trace_id == trace and span.name == "llm_request"]
    assert (span.service, span.attributes["gen_ai.usage.completion_tokens"]) == ("the engine", 1)
