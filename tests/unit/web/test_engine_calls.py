"""Requests that reach an engine: chat, models and pass-through over real sockets, and how each of them ends."""

import contextlib
import io
import json
import multiprocessing
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_nim.run import wait_for
from flask import Flask, Response, has_request_context, stream_with_context
from http_face import LIMIT_SEC, ROOT, Engine, Face, answer, chunk, engine, face, stream, stream_for_ever  # noqa: F401
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from nimdrum.base.errors import ChatError
from nimdrum.base.settings import load_settings
from nimdrum.session import counters
from nimdrum.session.attach import Endpoint
from nimdrum.session.caller import Caller, connection_ended
from nimdrum.session.counters import Counters
from nimdrum.session.exchange import Ask, Broken, CallerGone, EngineCall, Exchange, Late, Refused
from nimdrum.supervisor.state import Phase
from nimdrum.web import chat, metrics
from nimdrum.web.stream import error_of

ASK = {"messages": [{"role": "user", "content": "a prompt"}]}
DONE = b"[DONE]"
COMPLETION = {
    "id": "c-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def endpoint(engine: Engine) -> Endpoint:  # noqa: F811
    return Endpoint("127.0.0.1", engine.port, "served")


def test_a_stream_whose_caller_left_leaves_no_context_behind(face: Face, engine: Engine) -> None:  # noqa: F811
    """DRUM wraps our chunks twice, closes the outer one only, and Python 3.10 keeps the inner one, as is done here: the
    next request on this thread must not find its context, and the engine is free."""
    engine.reply = stream_for_ever
    kept = []

    def drums_answer(app: Flask) -> None:
        @app.post("/v1/chat/completions")
        def chat_route() -> Response:
            chunks = chat.complete({**ASK, "stream": True}, face.model)
            kept.append(stream_with_context(piece.to_json() for piece in chunks))
            return Response(piece for piece in kept[0])

    response = face.client(more=drums_answer).post("/v1/chat/completions", json=ASK, buffered=False)
    assert next(response.iter_encoded())
    assert has_request_context()
    response.close()
    assert not has_request_context()
    assert engine.left.wait(LIMIT_SEC)
    assert next(kept[0], None) is None


# --- One exchange ---


def test_nobody_there_is_told_apart() -> None:
    """Nothing was sent, so asking again is safe."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Refused):
            Exchange(Endpoint("127.0.0.1", closed.getsockname()[1], "m"), Ask("GET", "/"), 5)


def test_an_answer_that_never_comes_is_late(engine: Engine) -> None:  # noqa: F811
    """The time is for the whole exchange, not for each read: an engine that trickles is late too."""
    engine.reply = lambda handler: time.sleep(1.5)
    with pytest.raises(Late):
        Exchange(endpoint(engine), Ask("GET", "/"), 0.2)
    engine.reply = stream_for_ever
    trickling = Exchange(endpoint(engine), Ask("GET", "/"), 10)  # the head must come in time; it sends for twice that
    with pytest.raises(Late):
        trickling.read()
    trickling.close()
    assert engine.left.wait(LIMIT_SEC)


@pytest.mark.parametrize("streams", [True, False], ids=["in the stream", "before the answer"])
def test_a_caller_that_goes_away_ends_the_engines_work(engine: Engine, streams: bool) -> None:  # noqa: F811
    """The connection is shut down from here, though the thread that waits sits in a read."""
    gone = threading.Event()
    waiting = threading.Event()

    def never(handler: Any) -> None:
        waiting.set()
        if handler.connection.recv(1) == b"":
            raise ConnectionResetError

    engine.reply = stream_for_ever if streams else never
    if streams:
        exchange = Exchange(endpoint(engine), Ask("GET", "/"), LIMIT_SEC, gone.is_set)
        gone.set()
        with pytest.raises(CallerGone):
            exchange.read()
        exchange.close()
    else:
        threading.Thread(target=lambda: waiting.wait(LIMIT_SEC) and gone.set(), daemon=True).start()
        with pytest.raises(CallerGone):
            Exchange(endpoint(engine), Ask("GET", "/"), LIMIT_SEC, gone.is_set)
    assert engine.left.wait(LIMIT_SEC)


def test_half_an_answer_is_broken(engine: Engine) -> None:  # noqa: F811
    """With a length, with chunks, and with no head at all."""

    def short(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
        handler.close_connection = True

    def chunked(handler: Any) -> None:
        stream(handler, b"half", end=False)

    def nothing(handler: Any) -> None:
        handler.close_connection = True

    for reply in (short, chunked):
        engine.reply = reply
        with (
            pytest.raises(Broken),
            contextlib.closing(Exchange(endpoint(engine), Ask("GET", "/"), LIMIT_SEC)) as exchange,
        ):
            exchange.read()
    engine.reply = nothing
    with pytest.raises(Broken):
        Exchange(endpoint(engine), Ask("GET", "/"), LIMIT_SEC)


def test_what_was_not_sent_is_sent_to_where_the_engine_is_by_then(face: Face, engine: Engine) -> None:  # noqa: F811
    """A restarted engine may have another port; the answer says which it was."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        face.says(Phase.RUNNING, host="127.0.0.1", port=closed.getsockname()[1], model="served", engine_pid=1)

        def moves() -> bool:
            face.runs(engine)
            return False

        call = EngineCall(face.model, Caller(gone=moves))
        exchange = call.send(Ask("GET", "/"), call.ready())
    assert (exchange.endpoint.port, exchange.read()) == (engine.port, b"{}")


def test_the_kernel_knows_when_the_caller_hung_up() -> None:
    """For a closed connection, and for our own closed socket; a server without such a socket never says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
        ended = connection_ended({"gunicorn.socket": here})
        assert not ended()
        there.close()
        wait_for(ended, LIMIT_SEC)
        here.close()
        assert ended()
    assert not connection_ended({})()


# --- Chat ---


def test_a_stream_that_breaks_off_ends_in_an_error_event(face: Face, engine: Engine) -> None:  # noqa: F811
    """Not in silence, which a caller takes for the end of the answer."""
    engine.reply = lambda handler: stream(handler, chunk("one"), chunk("two"), end=False)
    chunks = list(chat.complete({**ASK, "stream": True}, face.model))
    assert [c.choices[0].delta.content for c in chunks[:2]] == ["one", "two"]
    error = error_of(chunks[2])
    assert error is not None
    assert (error["code"], error["type"]) == (503, "engine_unavailable")
    assert json.loads(chunks[2].to_json(indent=None))["error"]["message"].startswith("The engine's answer broke off")


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (b'{"error": {"message": "boom", "code": 500}}', 500),
        (b"no json", 502),
        (b"5", 502),
        (b'{"choices": [{"index": 0}]}', 502),
        (b'{"choices": 5}', 502),
    ],
)
def test_an_event_that_is_no_chunk_is_an_error_event(face: Face, engine: Engine, last: bytes, code: int) -> None:  # noqa: F811
    """The engine's own error event as well as nonsense; as the first event it is an answer with a status."""
    engine.reply = lambda handler: stream(handler, chunk("one"), last, chunk("never"), DONE)
    *good, bad = chat.complete({**ASK, "stream": True}, face.model)
    assert len(good) == 1
    assert (error_of(bad) or {})["code"] == code
    engine.reply = lambda handler: stream(handler, last, DONE)
    with pytest.raises(ChatError) as refused:
        chat.complete({**ASK, "stream": True}, face.model)
    assert refused.value.status == code


def test_a_lone_surrogate_does_not_end_the_stream(face: Face, engine: Engine) -> None:  # noqa: F811
    """It cannot be written as UTF-8, so it is replaced."""
    engine.reply = lambda handler: stream(handler, chunk("a \ud800 b"), DONE)
    (only,) = chat.complete({**ASK, "stream": True}, face.model)
    assert "\ufffd" in only.to_json(indent=None)


def test_an_empty_stream_is_one(face: Face, engine: Engine) -> None:  # noqa: F811
    engine.reply = lambda handler: stream(handler, DONE)
    assert list(chat.complete({**ASK, "stream": True}, face.model)) == []


@pytest.mark.parametrize("body", [b"", b"5", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b"\xff"])
def test_an_answer_that_is_no_completion_is_a_bad_gateway(face: Face, engine: Engine, body: bytes) -> None:  # noqa: F811
    """DRUM would fail on it with a general 500."""
    engine.reply = lambda handler: answer(handler, body)
    with pytest.raises(ChatError) as refused:
        chat.complete(ASK, face.model)
    assert refused.value.status == 502


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429, 500, 503])
def test_a_refusal_keeps_its_status(face: Face, engine: Engine, status: int) -> None:  # noqa: F811
    """With the engine's words, and when it says so the time to wait; streaming or not."""
    body = json.dumps({"error": {"message": "because", "type": "T", "param": "p", "code": status}}).encode()
    engine.reply = lambda handler: answer(handler, body, status, (("Retry-After", "7"),))
    for streaming in (True, False):
        with pytest.raises(ChatError, match="because") as refused:
            chat.complete({**ASK, "stream": streaming}, face.model)
        assert (refused.value.status, refused.value.retry_after) == (status, "7")
        assert refused.value.error["param"] == "p"


def test_a_stream_that_begins_with_an_error_is_hung_up_at_once(face: Face, engine: Engine) -> None:  # noqa: F811
    """The engine may keep the connection open, and a server may keep the error."""
    error = json.dumps({"error": {"message": "because", "type": "T", "code": 400}}).encode()

    def keep_open(handler: Any) -> None:
        stream(handler, error, end=False)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        if handler.connection.recv(1) == b"":
            raise ConnectionResetError

    engine.reply = keep_open
    with pytest.raises(ChatError, match="because") as refused:
        chat.complete({**ASK, "stream": True}, face.model)
    assert engine.left.wait(LIMIT_SEC)
    assert refused.value.__traceback__  # it is still kept


def test_defaults_for_chat_when_asked(tmp_path: Path) -> None:
    """With the switch on, what the request leaves out comes from the runtime parameters; without, nothing does."""
    given = {"system_prompt": "Be brief.", "max_tokens": 5, "temperature": 0}
    for switch in (True, False):
        asked = Face(tmp_path / str(switch), apply_defaults_to_chat=switch, **given)
        with contextlib.closing(asked), contextlib.closing(Engine()) as running:
            asked.runs(running)
            running.reply = lambda handler: answer(handler, json.dumps(COMPLETION).encode())
            chat.complete(ASK, asked.model)
            body = json.loads(running.asked[-1]["body"])
        assert (body.get("max_tokens"), len(body["messages"])) == ((5, 2) if switch else (None, 1))


# --- Pass-through ---


def test_pass_through_is_the_engines_own_api(face: Face, engine: Engine) -> None:  # noqa: F811
    """Method, path, query and body go there; status, body and headers come back; who the caller is stays here."""
    engine.reply = lambda handler: answer(handler, b'{"ok": 1}', 201, (("X-Engine", "1"), ("Set-Cookie", "a=b")))
    client = face.client("/p")
    for prefix in ("nim", "directAccess"):
        for method in ("GET", "POST", "PUT"):
            headers = {"Authorization": "Bearer secret", "X-Request-Id": "abc", "X-DataRobot-Consumer-Id": "7"}
            got = client.open(f"/p/{prefix}/v1/embeddings/?a=1", method=method, data=b"body", headers=headers)
            assert (got.status_code, got.data, got.headers["X-Engine"]) == (201, b'{"ok": 1}', "1")
            assert "Set-Cookie" not in got.headers
            seen = engine.asked[-1]
            assert (seen["method"], seen["path"]) == (method, "/v1/embeddings?a=1")
            assert seen["body"] == (b"" if method == "GET" else b"body")
            names = {name.lower(): value for name, value in seen["headers"]}
            assert names["x-request-id"].startswith("abc-")
            assert "secret" not in str(seen)
            assert "x-datarobot-consumer-id" not in names
    assert client.delete("/p/nim/v1/x").status_code == 405
    assert client.get("/nim/v1/completions").text == "drum"


def test_pass_through_streams_and_tells_a_break(face: Face, engine: Engine) -> None:  # noqa: F811
    """The first event is there while the engine still works; what breaks off ends in an error event."""
    go_on = threading.Event()

    def slowly(handler: Any) -> None:
        stream(handler, b"one", end=False)
        go_on.wait(LIMIT_SEC)

    engine.reply = slowly
    response = face.client().post("/nim/v1/completions", json={}, buffered=False)
    pieces = response.iter_encoded()
    assert next(pieces) == b"data: one\n\n"
    go_on.set()
    rest = b"".join(pieces)
    assert b'"engine_unavailable"' in rest
    assert rest.endswith(b"data: [DONE]\n\n")
    response.close()


CONTROL = (
    "sleep wake_up v1/load_lora_adapter v1/unload_lora_adapter flush_cache update_weights_from_disk collective_rpc "
    "start_profile stop_profile server_info get_server_info reset_prefix_cache abort_request slots slots/0 props "
    "models/load lora-adapters release_memory_occupation v1/responses/resp_1"
).split()


@pytest.mark.parametrize("path", CONTROL)
def test_what_controls_an_engine_is_not_passed_through(face: Face, engine: Engine, path: str) -> None:  # noqa: F811
    """403 with the path and the parameter that would name it; the engine hears nothing. Named, it passes."""
    client = face.client()
    for given in (path, path + "/", path.replace("_", "%5f")):
        refused = client.post(f"/nim/{given}", json={})
        assert refused.status_code == 403
        assert path in refused.json["message"]
        assert "pass_through_paths" in refused.json["message"]
    assert engine.asked == []
    for names in (path, f"other,/{path}/", f"x {path[:3]}*", "*"):
        face.model.settings = load_settings(ROOT, {"pass_through_paths": names}.get)
        assert client.post(f"/directAccess/{path}", json={}).status_code == 200
    face.model.settings = load_settings(ROOT, {"pass_through_paths": f"{path}x other* {path.upper()}X"}.get)
    assert client.post(f"/nim/{path}", json={}).status_code == 403


def test_what_is_not_passed_through(face: Face, engine: Engine) -> None:  # noqa: F811
    """Path tricks are 400, a body over the limit 413, a request in a circle 508; the engine hears nothing of them."""
    client = face.client()
    engine.reply = lambda handler: answer(handler, b"{}")
    for path in ("/nim/v1/%2e%2e/x", "/nim/%252e%252e/x", "/nim/http:%2F%2Fevil", "/nim/a%5cb", "/nim/v1/%0d%0aX:y"):
        assert client.get(path).status_code == 400, path
    too_long = {"CONTENT_LENGTH": str(65 << 20)}
    assert client.post("/nim/v1/completions", environ_overrides=too_long).status_code == 413
    assert client.post("/v1/chat/completions", environ_overrides=too_long).status_code == 413
    assert engine.asked == []
    assert client.get("/nim/v1/completions").status_code == 200
    via = dict(engine.asked[-1]["headers"])["Via"]
    again = client.get("/nim/v1/completions", headers={"Via": f"1.1 other, {via}"})
    assert again.status_code == 508
    assert len(engine.asked) == 1


def test_a_body_without_a_length_is_bounded_too(tmp_path: Path) -> None:
    """Chunks add up: the limit is on what is read."""
    small = Face(tmp_path, max_request_mb=1)
    with contextlib.closing(small), contextlib.closing(Engine()) as running:
        small.runs(running)
        environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}  # as servers pass on a chunked body
        sent = small.client().post(
            "/nim/v1/completions",
            input_stream=io.BytesIO(b"x" * 3_000_000),
            environ_overrides=environ,
            content_type="a/b",
        )
        assert sent.status_code == 413
        assert running.asked == []


# --- What DRUM would answer with a general 500 ---


@pytest.mark.parametrize(
    ("body", "type_", "status"),
    [
        (b"[1]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"messages": null}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"", "", 415),
    ],
)
def test_chat_bodies_that_drum_fails_on(face: Face, body: bytes, type_: str, status: int) -> None:  # noqa: F811
    """They are refused with a reason, in OpenAI's shape."""
    got = face.client().post("/v1/chat/completions", data=body, content_type=type_)
    assert got.status_code == status
    assert got.json is not None
    assert got.json["error"]["message"] == got.json["message"]


def test_a_500_of_drum_shows_nothing_internal(face: Face) -> None:  # noqa: F811
    """Its text may hold a prompt or a repr; the log has it."""
    client = face.client()

    @client.application.route("/predict/", methods=["POST"])
    def predict() -> tuple[dict[str, str], int]:
        return {"message": "ERROR: Model 'score' hook failed. Exception: ValueError('a prompt')"}, 500

    got = client.post("/predict/", data=b"x")
    assert got.status_code == 500
    assert "prompt" not in got.text
    assert "log has the cause" in got.text


# --- Metrics ---


def test_metrics_are_ours_and_the_engines(
    face: Face,  # noqa: F811
    engine: Engine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One valid page; without the engine's part while it does not run, or when it does not answer."""
    monkeypatch.setattr(metrics, "ENGINE_TIMEOUT_SEC", LIMIT_SEC)  # a busy machine is no engine without metrics
    parser = pytest.importorskip("prometheus_client.parser")
    engine.reply = lambda handler: answer(handler, b"# TYPE vllm:x gauge\nvllm:x 1\nrubbish here <\n")
    client = face.client()
    client.get("/nim/v1/completions").close()  # counted when its body is out
    got = client.get("/metrics")
    families = {family.name: family for family in parser.text_string_to_metric_families(got.text)}
    assert {"nimdrum_engine_up", "nimdrum_info", "nimdrum_requests", "vllm:x"} <= set(families)
    phases = {sample.labels["phase"]: sample.value for sample in families["nimdrum_engine_phase"].samples}
    assert [phase for phase, value in phases.items() if value] == ["RUNNING"]
    assert families["nimdrum_requests"].samples[0].labels == {"route": "nim", "status": "200"}
    engine.reply = lambda handler: answer(handler, b"", 501)
    assert "nimdrum_engine_metrics_up 0" in client.get("/metrics").text
    face.says(None)
    assert "nimdrum_engine_up 0" in client.get("/metrics").text


def _add(path: Path, times: int) -> None:
    for _ in range(times):
        Counters(path).add({("nimdrum_rows_total", ()): 1.0})


def test_all_processes_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn's workers and werkzeug's forks add to the same numbers; nothing is lost. A broken file begins anew."""
    monkeypatch.setattr(counters, "LOCK_TIMEOUT_SEC", LIMIT_SEC)  # after a second a count is given up, also on purpose
    path = tmp_path / "counters.json"
    workers = [multiprocessing.get_context("fork").Process(target=_add, args=(path, 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert Counters(path).read() == {("nimdrum_rows_total", ()): 150.0}
    path.write_text("[half")
    _add(path, 1)
    assert Counters(path).read() == {("nimdrum_rows_total", ()): 1.0}


# --- Tracing ---


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """DRUM's tracing, switched on: a provider for the process. The API lets nobody set it twice, hence the patch."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


def test_a_chat_is_one_span(face: Face, engine: Engine, spans: InMemorySpanExporter) -> None:  # noqa: F811
    """Names and numbers by the GenAI conventions, none of the texts; the engine gets the trace's id."""
    engine.reply = lambda handler: answer(handler, json.dumps(COMPLETION).encode())
    chat.complete({**ASK, "max_tokens": 5, "temperature": {"a": 1}}, face.model)
    (span,) = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert span.name == "chat served"
    assert attributes["gen_ai.request.max_tokens"] == 5
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (3, 2)
    assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]) == ("served", "m")
    assert "a prompt" not in str(attributes)
    traceparent = dict(engine.asked[-1]["headers"])["traceparent"]
    assert f"{span.context.trace_id:032x}" in traceparent


def test_a_stream_is_one_span_to_its_end(face: Face, engine: Engine, spans: InMemorySpanExporter) -> None:  # noqa: F811
    """It ends with the stream, or when the stream is dropped; a refusal is an error with the status."""
    usage = chunk("", usage=COMPLETION["usage"])
    engine.reply = lambda handler: stream(handler, chunk("x"), usage, DONE)
    chunks = chat.complete({**ASK, "stream": True}, face.model)
    assert spans.get_finished_spans() == ()
    list(chunks)
    assert dict(spans.get_finished_spans()[0].attributes or {})["gen_ai.usage.output_tokens"] == 2
    dropped = chat.complete({**ASK, "stream": True}, face.model)
    next(dropped)
    dropped.close()
    assert len(spans.get_finished_spans()) == 2
    engine.reply = lambda handler: answer(handler, b"{}", 404)
    with pytest.raises(ChatError):
        chat.complete(ASK, face.model)
    assert dict(spans.get_finished_spans()[2].attributes or {})["error.type"] == "404"


def test_without_drums_tracing_nothing_is_added(face: Face, engine: Engine) -> None:  # noqa: F811
    """No provider: no header, no span."""
    engine.reply = lambda handler: answer(handler, json.dumps(COMPLETION).encode())
    chat.complete(ASK, face.model)
    assert "traceparent" not in dict(engine.asked[-1]["headers"])
