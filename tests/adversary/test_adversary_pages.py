"""The engine's pages that we read by ourselves: models, metrics. Whatever they say, we go on looking and counting."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from adversary_cases import CHUNKS, DEEP, HEAD, KILO, for_ever, says
from fake_nim.run import wait_for
from http_face import Face
from prometheus_client.parser import text_string_to_metric_families
from rude_engine import METRICS, MODELS, RudeEngine, http
from test_adversary_rows import Place

from nimdrum.engines.work import KNOWN
from nimdrum.supervisor.probe import Address, look_at_work, look_ready

MODELS_PAGES = {
    "deep": http(b'{"data": ' + DEEP + b"}"),
    "a number": http(b"5"),
    "ids of lists": http(b'{"data": [{"id": ["a"]}]}'),
    "no ids": http(b'{"data": [{}]}'),
    "none": http(b'{"data": []}'),
    "no JSON": http(b"<html>"),
    "no UTF-8": http(b"\xff\xfe\xff"),
    "a long number": http(b'{"data": ' + b"9" * 10_000 + b"}"),
    "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + http(MODELS),
    "no HTTP": b"hello\r\n\r\n",
}
LINES = {
    "many digits": b"vllm:num_requests_running " + b"9" * 100_000 + b"x",
    "many blanks": b"vllm:num_requests_running" + b" " * 100_000 + b"x",
    "blanks behind": b"vllm:num_requests_running 1" + b" " * 100_000 + b"x",
    "many braces": b"vllm:num_requests_running{" + b"} " * 50_000 + b"x",
    "a long name": b"a" * 100_000 + b"! 1",
    "many letters and colons": b"a:" * 50_000 + b" 1",
    "infinite": b"vllm:num_requests_running +Inf\nvllm:num_requests_waiting +Inf",
    "huge": b"vllm:num_requests_running 1e308\nvllm:num_requests_running 1e308\nvllm:num_requests_waiting 1e308",
    "not a number": b"vllm:num_requests_running NaN\nvllm:num_requests_waiting NaN",
    "negative": b"vllm:num_requests_running -5\nvllm:num_requests_waiting -5",
    "no UTF-8": b"\xff\xfe\0\0",
}
ENDLESS = {
    "body": for_ever(KILO * 64, HEAD + b"\r\n"),
    "trailers": for_ever(b"A: b\r\n" * 1000, CHUNKS + b"0\r\n"),
    "continues": for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


@pytest.fixture
def engine() -> Iterator[RudeEngine]:
    running = RudeEngine()
    yield running
    running.close()


@pytest.fixture
def place(tmp_path: Path, engine: RudeEngine) -> Iterator[Place]:
    face = Face(tmp_path, max_concurrency=4)
    face.runs(engine)
    yield Place(face, engine)
    face.close()


def address(engine: RudeEngine) -> Address:
    return Address("127.0.0.1", engine.port, "/v1/health/ready", None, KNOWN)


@pytest.mark.parametrize("page", MODELS_PAGES.values(), ids=MODELS_PAGES)
def test_a_list_of_models(engine: RudeEngine, page: bytes) -> None:
    """A look says what it saw, and never raises: the thread that looks must not end."""
    engine.pages["/v1/models"] = says(page, end=True)
    seen = look_ready(address(engine), 5.0)
    assert seen.ready == (b"rude/model" in page), seen


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_of_metrics(place: Place, line: bytes) -> None:
    """Looked at in linear time, and again; rows go on; /metrics is a page that Prometheus reads."""
    place.engine.pages["/metrics"] = says(http(line + b"\n" + line + b"\n" + METRICS))
    work = look_at_work(address(place.engine))
    for value in (work.running, work.waiting, work.progress):
        assert value is None or 0 <= value < 1e15
    prompts = [f"row {i}" for i in range(300)]
    assert place.score(prompts)["resultText"].tolist() == [f"echo: {prompt}" for prompt in prompts]
    looks = place.engine.times_of("/metrics")
    wait_for(lambda: len(place.score(["row 1"])) == 1 and place.engine.times_of("/metrics") > looks, 30)
    page = place.face.client().get("/metrics")
    assert page.status_code == 200
    list(text_string_to_metric_families(page.text))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("act", ENDLESS.values(), ids=ENDLESS)
def test_a_page_without_an_end(place: Place, act) -> None:
    """Given up, by its size or its time; what nobody reads any more is not sent any more."""
    engine = place.engine
    for path in ("/metrics", "/v1/models"):
        good, engine.pages[path] = engine.pages[path], act
        assert not look_ready(address(engine), 5.0).ready or path == "/metrics"
        assert look_at_work(address(engine)).running is None or path != "/metrics"
        engine.pages[path] = good
    engine.pages["/metrics"] = act
    assert "nimdrum_engine_metrics_up 0" in place.face.client().get("/metrics").text
    assert place.score(["row 1"])["resultText"].tolist() == ["echo: row 1"]
    engine.pages["/metrics"] = good
    wait_for(lambda: engine.connections <= 4, 30)


@pytest.mark.parametrize("tokens", ["1" + "0" * 308, "1" + "0" * 400, "1e308", "-1", "1" + "0" * 30])
def test_token_counts_that_are_none(place: Place, tokens: str) -> None:
    """The rows are answered, and the sums of all rows stay numbers that Prometheus reads."""
    body = '{"choices": [{"message": {"content": "yes"}}], "usage": {"completion_tokens": %s, "prompt_tokens": 2}}'
    place.engine.acts["count"] = says(http((body % tokens).encode()))
    for _ in range(2):
        answers = place.score(["<count> 1", "<count> 2", "row 3"])
        assert answers["resultText"].tolist() == ["yes", "yes", "echo: row 3"]
        assert answers["completion_tokens"].tolist() == [None, None, 2]
    page = place.face.client().get("/metrics").text
    assert 'nimdrum_tokens_total{kind="completion"} 4\n' in page


def test_counters_that_were_spoilt_are_read_again(place: Place) -> None:
    """An earlier version may have added up to infinity."""
    (place.face.run_dir.path / "counters.json").write_text('[["nimdrum_tokens_total", [["kind", "prompt"]], Infinity]]')
    page = place.face.client().get("/metrics")
    assert page.status_code == 200
    list(text_string_to_metric_families(page.text))
