"""OpenTelemetry: what a collector gets of rows and chats, from DRUM itself."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import requests
from drum_process import drum_score, drum_server
from edge_world import READY_SEC, World
from fake_nim.run import wait_for
from otlp_receiver import Received, otlp_receiver

DURATION, USAGE = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
MODEL = "datarobot-deployed-llm"
CHAT = "/v1/chat/completions"


@pytest.fixture
def collector(world: World) -> Iterator[Received]:
    """A collector that DRUM is told of, as DataRobot does it."""
    with otlp_receiver() as received:
        world.environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "X-DataRobot-Api-Key=made-up-key-of-the-collector",
            "OTEL_SERVICE_NAME": "my deployment",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
        }
        yield received


def test_a_batch(world: World, collector: Received) -> None:
    """Each row that was sent is one operation, with its model and tokens; one that fails has its kind as the error's type, and an
    empty prompt is none. The engine is told where to send its own, and not with whose key."""
    world.fake(line="2.x", adapters=("legal",))
    rows, output = world.folder / "rows.csv", world.folder / "answers.csv"
    asked = {"promptText": ["one", "two", "", "x" * 200_000], "model": ["", "legal", "", ""]}
    pd.DataFrame(asked).to_csv(rows, index=False)
    with drum_score(world, rows, output, engine="nim", per_row_columns=True) as running:
        assert running.exit_code() == 0, running.printed[-3000:]
    answers = pd.read_csv(output)
    sent = answers[answers["attempts"] > 0]
    failed = sent[sent["row_error"].fillna("") != ""]
    count, seconds = collector.total(DURATION, gen_ai__operation__name="chat")
    assert count == len(sent) == 3
    assert collector.total(DURATION, gen_ai__request__model=MODEL)[0] == 2
    assert collector.total(DURATION, gen_ai__request__model="legal")[0] == 1
    assert seconds == pytest.approx(sent["latency_sec"].sum(), abs=0.01)
    assert collector.total(DURATION, error__type="too_long")[0] == len(failed) == 1
    for kind, column in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        assert collector.total(USAGE, gen_ai__token__type=kind) == (2, sent[column].sum())
    point = collector.points[DURATION][0]
    assert (point.unit, collector.points[USAGE][0].unit) == ("s", "{token}")
    assert point.bounds[:3] == (0.01, 0.02, 0.04)
    assert point.attributes["gen_ai.provider.name"] == "nim"
    assert point.attributes["server.address"] == "127.0.0.1"
    assert {span.service for span in collector.spans} == {"my deployment"}
    (start,) = world.starts()
    assert start["env"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == collector.url
    assert start["env"]["OTEL_SERVICE_NAME"] == "my deployment"
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in start["env"]


@pytest.mark.parametrize("mode", [{}, {"worker_class": "gevent"}], ids=["werkzeug", "gevent"])
def test_chats(world: World, collector: Received, mode: dict[str, Any]) -> None:
    """A chat, a stream that tells its tokens, and one that the engine refuses, while the server runs."""
    world.fake(line="2.x")
    with drum_server(world, engine="nim", **mode) as running:
        running.wait_health(200)
        hello: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
        streamed = {**hello, "stream": True, "stream_options": {"include_usage": True}}
        refused = {**hello, "temperature": -1}
        usage = requests.post(running.url + CHAT, json=hello, timeout=READY_SEC).json()["usage"]
        assert "[DONE]" in requests.post(running.url + CHAT, json=streamed, timeout=READY_SEC).text
        assert requests.post(running.url + CHAT, json=refused, timeout=READY_SEC).status_code == 400
        wait_for(lambda: collector.total(DURATION)[0] == 3, READY_SEC)
        assert collector.total(DURATION, error__type="400")[0] == 1
        tokens = 2 * usage["completion_tokens"]
        wait_for(lambda: collector.total(USAGE, gen_ai__token__type="output") == (2, tokens), READY_SEC)
        assert collector.total(USAGE, gen_ai__token__type="input") == (2, 2 * usage["prompt_tokens"])
        assert "hello" not in repr(collector.points)
