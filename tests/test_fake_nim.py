"""The fake NIM does what its switches say: each test starts the real process on a free port and asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_nim.bodies import ENGINE_DEAD
from fake_nim.config import FakeNimConfig
from fake_nim.image import build_image
from fake_nim.run import DEADLINE_SEC, HOST, Running, fake_nim, free_port, is_fake, wait_for
from fake_nim.text import answer

CHAT = "/v1/chat/completions"


@contextlib.contextmanager
def in_flight(fake: Running, *prompts: str, **fields: Any) -> Iterator[list[socket.socket]]:
    """One open connection per prompt, each with a completion sent and no answer read."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for prompt in prompts:
            body = json.dumps({"messages": [{"role": "user", "content": prompt}], **fields}).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {len(body)}\r\n\r\n"
            sock = stack.enter_context(socket.create_connection((HOST, fake.port), timeout=DEADLINE_SEC))
            sock.sendall(head.encode() + body)
            sockets.append(sock)
        yield sockets


def wait_for_load(fake: Running, running: int, waiting: int) -> None:
    """Until the metrics page tells this many running and waiting requests."""
    names = ("num_requests_running", "num_requests_waiting")
    wait_for(lambda: [fake.metric(name) for name in names] == [running, waiting])


def error_of(line: str, body: dict[str, Any]) -> dict[str, Any]:
    """The error object, checked to have the line's shape."""
    if line == "1.x":
        assert set(body) == {"object", "message", "type", "param", "code"} and body["object"] == "error"
        return body
    assert set(body) == {"error"}
    inner: dict[str, Any] = body["error"]
    assert set(inner) == {"message", "type", "param", "code"}
    return inner


def events(body: bytes) -> list[Any]:
    """The data of each server-sent event; [DONE] as text."""
    lines = [block.removeprefix(b"data: ") for block in body.split(b"\n\n") if block]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


# Config and pure parts.


def test_config_survives_json_and_refuses_what_it_does_not_know() -> None:
    """A config read back equals what was written; a misspelt switch or value is an error, not a default."""
    config = FakeNimConfig(line="2.x", last_lines=("a", "b"), crash_after=3, answer_tokens=7)
    assert FakeNimConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="max_num_seq'"):
        FakeNimConfig.from_json('{"max_num_seq": 3}')
    with pytest.raises(ValueError, match="line must be"):
        FakeNimConfig(line="4.x")
    with pytest.raises(ValueError, match="release must be"):
        FakeNimConfig(line="1.x", release="2.0")
    with pytest.raises(ValueError, match="release must be"):
        FakeNimConfig(release="1.99")
    with pytest.raises(ValueError, match="record_dir"):
        FakeNimConfig(crash_once=True)


@pytest.mark.parametrize(
    ("answer_tokens", "limit", "content", "finish_reason"),
    [
        (None, 9, "echo: one  two", "stop"),
        (None, 2, "echo: one", "length"),
        (5, 9, "echo: one  two pad1 pad2", "stop"),
        (5, 4, "echo: one  two pad1", "length"),
    ],
)
def test_answers_are_cut_and_padded(answer_tokens: int | None, limit: int, content: str, finish_reason: str) -> None:
    """The answer follows from the prompt, keeps its whitespace, and has as many words as the limits say."""
    choice = answer(FakeNimConfig(answer_tokens=answer_tokens), "one  two", "one  two", limit, 0)
    assert (choice.content, choice.finish_reason) == (content, finish_reason)


# The image, start and end of the process.


@pytest.mark.parametrize(
    ("config", "files", "absent"),
    [
        (
            FakeNimConfig(),
            ["opt/nvidia/nvidia_entrypoint.sh", "opt/nim/start_server.sh", "opt/nim/llm/.venv"],
            ["opt/nim/etc", "opt/nim/start-server.sh"],
        ),
        (FakeNimConfig(legacy_script_name=True), ["opt/nim/start-server.sh"], ["opt/nim/start_server.sh"]),
        (
            FakeNimConfig(line="2.x"),
            [
                "opt/nim/start_server.sh",
                "opt/nim/etc/nginx.conf.template",
                "opt/nim/scripts/nginx_env_vars.sh",
                "opt/nim/etc/default/model_manifest.yaml",
            ],
            ["opt/nvidia", "opt/nim/llm", "etc/nim"],
        ),
    ],
)
def test_image_tree_tells_the_line(tmp_path: Path, config: FakeNimConfig, files: list[str], absent: list[str]) -> None:
    """An image tree has what its line has and nothing by which the other would be detected."""
    script = build_image(tmp_path, config)
    assert os.access(script, os.X_OK)
    assert [name for name in files if not (tmp_path / name).exists()] == []
    assert [name for name in absent if (tmp_path / name).exists()] == []


def test_wrapper_prints_a_banner_and_becomes_the_server(tmp_path: Path) -> None:
    """The 1.x wrapper runs its arguments in its own place: the exit code is the server's."""
    config = FakeNimConfig(die_before_ready=True, last_lines=("CUDA out of memory",), exit_code=9)
    script = build_image(tmp_path, config)
    wrapper = tmp_path / "opt/nvidia/nvidia_entrypoint.sh"
    ended = subprocess.run([wrapper, script], capture_output=True, text=True, timeout=DEADLINE_SEC)
    assert ended.returncode == 9
    assert "Microservice" in ended.stdout
    assert ended.stderr.splitlines() == ["CUDA out of memory"]


def test_1x_refuses_connections_while_loading(tmp_path: Path) -> None:
    """In 1.x nothing listens before the model is loaded."""
    with fake_nim(tmp_path, FakeNimConfig(never_ready=True), ready=False) as fake:
        wait_for(lambda: "Selected profile" in fake.log)
        with pytest.raises(ConnectionRefusedError):
            fake.get("/v1/health/live")


def test_2x_answers_early_but_is_not_ready(tmp_path: Path) -> None:
    """In 2.x nginx answers while the backend loads: live 200, ready 503, everything else its own 503 page."""

    def is_live() -> bool:
        try:
            return fake.get("/v1/health/live").status == 200
        except OSError:
            return False

    with fake_nim(tmp_path, FakeNimConfig(line="2.x", never_ready=True), ready=False) as fake:
        wait_for(is_live)
        assert fake.get("/v1/health/ready").status == 503
        for early in (fake.get("/v1/models"), fake.chat("hello")):
            assert early.status == 503
            assert early.headers["content-type"] == "text/html" and b"nginx" in early.body


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_dies_before_ready_with_its_last_words(tmp_path: Path, line: str) -> None:
    """A start that fails ends with the configured exit code after the configured last lines."""
    lines = ["Detected 0 compatible profile", "giving up"]
    config = FakeNimConfig(line=line, die_before_ready=True, last_lines=tuple(lines), exit_code=3)
    with fake_nim(tmp_path, config, ready=False) as fake:
        assert fake.wait_exit() == 3
        assert fake.log.splitlines()[-2:] == lines


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("2.x", "NIM_LOG_LEVEL", "DEFAULT"),
        ("1.x", "NIM_LOG_LEVEL", "info"),
        ("1.x", "NIM_JSONL_LOGGING", "true"),
    ],
)
def test_a_value_the_line_does_not_know_ends_the_start(tmp_path: Path, line: str, name: str, value: str) -> None:
    """Log settings of the wrong line end the start with 1 and a message that names the variable."""
    with fake_nim(tmp_path, FakeNimConfig(line=line), env={name: value}, ready=False) as fake:
        assert fake.wait_exit() == 1
        assert "Unsupported value" in fake.log and name in fake.log


def test_a_taken_port_ends_the_start(tmp_path: Path) -> None:
    """A second server on the same port says so and ends with 1."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with fake_nim(tmp_path / "a") as first:
        env = {"NIM_SERVER_PORT": str(first.port)}
        with fake_nim(tmp_path / "b", env=env, ready=False) as second:
            assert second.wait_exit() == 1
            assert "address already in use" in second.log


def test_start_is_recorded_and_environment_is_obeyed(tmp_path: Path) -> None:
    """starts.jsonl tells pid, arguments and environment; names and context length follow the environment."""
    env = {"NIM_SERVED_MODEL_NAME": "a/one, two", "NIM_MAX_MODEL_LEN": "77", "NIM_LOG_LEVEL": "INFO"}
    with fake_nim(tmp_path, env=env, args=("nim-serve", "--flag")) as fake:
        (start,) = fake.starts()
        assert start["pid"] == fake.process.pid == start["pgid"] == start["sid"]
        assert start["argv"][-2:] == ["nim-serve", "--flag"]
        assert {name: start["env"][name] for name in env} == env
        listed = fake.get("/v1/models").json()["data"]
        assert [(model["id"], model["max_model_len"]) for model in listed] == [("a/one", 77), ("two", 77)]
        assert fake.chat("hi", model="two").json()["model"] == "two"


def test_2x_has_a_health_port_of_its_own_where_asked(tmp_path: Path) -> None:
    """A health port other than the server's is listened on in 2.x."""
    port = free_port()
    with fake_nim(tmp_path, FakeNimConfig(line="2.x"), env={"NIM_HEALTH_PORT": str(port)}):
        connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE_SEC)
        connection.request("GET", "/v1/health/ready")
        assert connection.getresponse().status == 200
        connection.close()


def test_sigterm_ends_it_at_once_with_requests_in_flight(tmp_path: Path) -> None:
    """TERM means exit code 0 and dropped requests, no draining."""
    with (
        fake_nim(tmp_path, FakeNimConfig(hang_prompts_containing="hang")) as fake,
        in_flight(fake, "hang") as (sock,),
    ):
        wait_for_load(fake, 1, 0)
        fake.process.terminate()
        assert fake.wait_exit() == 0
        assert fake.log.splitlines()[-1] == "shutting down"
        assert sock.recv(1) == b""


def test_ignored_sigterm_needs_a_kill(tmp_path: Path) -> None:
    """With ignore_sigterm the server goes on answering after TERM and ends on KILL."""
    with fake_nim(tmp_path, FakeNimConfig(ignore_sigterm=True)) as fake:
        fake.process.terminate()
        assert fake.chat("still there").status == 200
        fake.process.kill()
        assert fake.wait_exit() == -signal.SIGKILL


def test_a_shell_that_stays_is_not_the_server(tmp_path: Path) -> None:
    """With shell_stays a TERM to the started pid alone does nothing until the server below it ends."""
    with fake_nim(tmp_path, FakeNimConfig(shell_stays=True)) as fake:
        (start,) = fake.starts()
        assert start["ppid"] == fake.process.pid
        fake.process.terminate()
        assert fake.chat("still there").status == 200
        os.kill(start["pid"], signal.SIGTERM)
        assert fake.wait_exit() == 0


def test_grandchildren_can_escape_the_group_and_ignore_sigterm(tmp_path: Path) -> None:
    """Escaped grandchildren have sessions of their own, outlive a TERM to the group, and ignore their own."""
    config = FakeNimConfig(grandchildren=2, grandchildren_ignore_sigterm=True, grandchildren_own_session=True)
    with fake_nim(tmp_path, config) as fake:
        pids = fake.starts()[0]["grandchildren"]
        assert [os.getsid(pid) for pid in pids] == pids
        os.killpg(fake.process.pid, signal.SIGTERM)
        assert fake.wait_exit() == 0
        for pid in pids:
            ignored = int(Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0], 16)
            assert ignored >> (signal.SIGTERM - 1) & 1
            assert is_fake(pid)
    wait_for(lambda: not any(is_fake(pid) for pid in pids))


def test_tame_grandchildren_go_with_the_group(tmp_path: Path) -> None:
    """Without the switches grandchildren are in the server's group and end with it."""
    with fake_nim(tmp_path, FakeNimConfig(grandchildren=1)) as fake:
        (pid,) = fake.starts()[0]["grandchildren"]
        assert os.getpgid(pid) == fake.process.pid
        os.killpg(fake.process.pid, signal.SIGTERM)
        wait_for(lambda: not is_fake(pid))


def test_chatty_start_fills_the_log(tmp_path: Path) -> None:
    """chatty_lines are all printed before the server is ready."""
    with fake_nim(tmp_path, FakeNimConfig(chatty_lines=5_000)) as fake:
        assert fake.log.count("loading shard") == 5_000


# Answers.


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_routes(tmp_path: Path, line: str) -> None:
    """The side routes answer as the real ones do; unknown paths and wrong methods are refused."""
    with fake_nim(tmp_path, FakeNimConfig(line=line)) as fake:
        assert fake.get("/v1/health/live").status == 200
        assert set(fake.get("/v1/version").json()) == {"release", "api"}
        assert "modelInfo" in fake.get("/v1/metadata").json()
        assert fake.get(CHAT).status == 405
        assert fake.request("POST", "/v1/models", {}).status == 405
        missing = fake.get("/v1/nothing")
        assert missing.status == 404
        assert missing.body == b'{"detail":"Not Found"}' if line == "1.x" else b"nginx" in missing.body


def test_metrics_can_be_off(tmp_path: Path) -> None:
    """Without metrics both pages are 404."""
    with fake_nim(tmp_path, FakeNimConfig(metrics=False)) as fake:
        assert [fake.get(path).status for path in ("/metrics", "/v1/metrics")] == [404, 404]


def test_a_completion_and_its_record(tmp_path: Path) -> None:
    """Id, choices, usage and metrics of one answer agree; requests.jsonl has the request and its status."""
    config = FakeNimConfig(record_dir=str(tmp_path / "record"), record_requests=True)
    with fake_nim(tmp_path, config) as fake:
        got = fake.chat("good morning", {"X-Request-Id": "abc-1"}, n=2).json()
        assert got["id"] == "chatcmpl-abc-1"
        contents = [choice["message"]["content"] for choice in got["choices"]]
        assert contents == ["echo: good morning", "echo-1: good morning"]
        usage = {name: number for name, number in got["usage"].items() if number is not None}
        assert usage == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}
        counted = [fake.metric("prompt_tokens_total"), fake.metric("generation_tokens_total")]
        assert counted == [4, 6]  # as vLLM counts: the prompt once for each choice
        (record,) = [line for line in fake.requests() if line["path"] == CHAT]
        assert record["body"]["messages"][0]["content"] == "good morning"
        assert record["headers"]["x-request-id"] == "abc-1"
        assert (record["status"], record["complete"]) == (200, True)


def test_one_connection_carries_many_requests(tmp_path: Path) -> None:
    """Connections are kept alive, also after an error and a stream, and closed when the client asks."""
    with fake_nim(tmp_path) as fake:
        connection = http.client.HTTPConnection(HOST, fake.port, timeout=DEADLINE_SEC)
        for fields in ({}, {"n": 0}, {"stream": True}, {}):
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields})
            connection.request("POST", CHAT, body)
            sock = connection.sock
            assert connection.getresponse().read()
            assert connection.sock is sock
        connection.request("GET", "/v1/models", headers={"Connection": "close"})
        response = connection.getresponse()
        assert response.will_close and response.read()


def test_streaming(tmp_path: Path) -> None:
    """A stream carries role, every token, the finish reason, the usage if asked for, and [DONE]."""
    with fake_nim(tmp_path, FakeNimConfig(reasoning="hm")) as fake:
        got = fake.chat("a b c", stream=True, max_tokens=3, stream_options={"include_usage": True})
        assert got.headers["content-type"].startswith("text/event-stream")
        *chunks, last, done = events(got.body)
        assert done == "[DONE]"
        assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert deltas[0]["role"] == "assistant"
        assert deltas[1] == {"reasoning_content": "hm"}
        assert "".join(delta.get("content") or "" for delta in deltas) == "echo: a b"
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert events(fake.chat("a", stream=True).body)[-2].get("usage") is None


def test_streamed_tokens_come_one_after_the_other(tmp_path: Path) -> None:
    """With seconds_per_token the first token is there while the last is not: tokens move while it runs."""
    config = FakeNimConfig(seconds_per_token=0.02, answer_tokens=3_000)
    with fake_nim(tmp_path, config) as fake, in_flight(fake, "go", stream=True) as (sock,):
        got = b""
        while b"echo:" not in got:
            got += sock.recv(65_536)
        wait_for(lambda: fake.metric("generation_tokens_total") >= 2)
        wait_for_load(fake, 1, 0)
        assert b"[DONE]" not in got


def test_odd_contents(tmp_path: Path) -> None:
    """Null content, reasoning under the other name, and a lone surrogate reach the client as configured."""
    config = FakeNimConfig(null_content="NULL", lone_surrogate="BAD", reasoning="hm", reasoning_field="reasoning")
    with fake_nim(tmp_path, config) as fake:
        choice = fake.chat("NULL please", max_tokens=5).json()["choices"][0]
        assert choice["message"]["content"] is None and choice["finish_reason"] == "length"
        assert choice["message"]["reasoning"] == "hm"
        assert events(fake.chat("NULL please", max_tokens=5, stream=True).body)[-1] == "[DONE]"
        assert rb"\ud800" in fake.chat("BAD please").body
        assert fake.chat("grün").json()["choices"][0]["message"]["content"] == "echo: grün"


# Refusals.


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_error_bodies(tmp_path: Path, line: str) -> None:
    """Each refusal has vLLM's status, type and param, in the shape of the line."""
    config = FakeNimConfig(line=line, max_model_len=20, poison="arsenic")
    cases: list[tuple[dict[str, Any], int, str, str | None]] = [
        ({"model": "other"}, 404, "NotFoundError", "model"),
        ({"max_tokens": 0}, 400, "BadRequestError", "max_tokens"),
        ({"max_tokens": 21}, 400, "BadRequestError", "max_tokens"),
        ({"max_tokens": "abc"}, 400, "Bad Request", "body.max_tokens"),
        ({"n": 0}, 400, "BadRequestError", None),
        ({"temperature": -1}, 400, "BadRequestError", "temperature"),
        ({"messages": []}, 400, "BadRequestError", None),
        ({"messages": [{"role": "user", "content": "a " * 20}]}, 400, "BadRequestError", "input_tokens"),
        ({"messages": [{"role": "user", "content": "a" * 321}]}, 400, "BadRequestError", "input_text"),
        ({"messages": [{"role": "user", "content": "some arsenic"}]}, 400, "BadRequestError", None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "BadRequestError", None),
        ({"tools": [{"type": "function"}]}, 400, "BadRequestError", None),
    ]
    with fake_nim(tmp_path, config) as fake:
        for fields, status, type_, param in cases:
            got = fake.chat("hello", **fields)
            error = error_of(line, got.json())
            seen = (got.status, error["code"], error["type"], error["param"])
            assert seen == (status, status, type_, param), fields
        broken = fake.request("POST", CHAT, b'{"model": ')
        assert (broken.status, error_of(line, broken.json())["param"]) == (400, "body.10")


def test_what_only_1x_refuses(tmp_path: Path) -> None:
    """1.x refuses unknown fields and a max_tokens that does not fit; 2.x ignores and cuts them."""
    config = FakeNimConfig(max_model_len=20, answer_tokens=50)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    with fake_nim(tmp_path / "1", config) as fake:
        unknown = fake.chat("hello", max_completion_tokens=5)
        assert unknown.status == 400 and "extra_forbidden" in error_of("1.x", unknown.json())["message"]
        assert error_of("1.x", fake.chat("one two", max_tokens=19).json())["param"] == "input_tokens"
    with fake_nim(tmp_path / "2", FakeNimConfig(line="2.x", max_model_len=20, answer_tokens=50)) as fake:
        assert fake.chat("hello", max_completion_tokens=5).json()["usage"]["completion_tokens"] == 5
        cut = fake.chat("one two", max_tokens=19, nvext={"top_k": 1}).json()
        assert cut["usage"]["completion_tokens"] == 18
        assert cut["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("refuse_n", "at_zero", "at_one"),
    [
        ("never", (200, 3), (200, 3)),
        ("greedy", (400, 0), (200, 3)),
        ("always", (400, 0), (400, 0)),
        ("ignore", (200, 1), (200, 1)),
    ],
)
def test_refusals_of_n(tmp_path: Path, refuse_n: str, at_zero: tuple[int, int], at_one: tuple[int, int]) -> None:
    """n above 1 is made, refused when greedy, refused always, or silently answered with one choice."""
    with fake_nim(tmp_path, FakeNimConfig(line="2.x", refuse_n=refuse_n)) as fake:
        for temperature, expected in ((0, at_zero), (1.0, at_one)):
            got = fake.chat("hello", n=3, temperature=temperature)
            assert (got.status, len(got.json().get("choices", []))) == expected
        assert fake.chat("hello", n=1, temperature=0).status == 200


def test_rate_limit(tmp_path: Path) -> None:
    """After its number of requests comes 429 with Retry-After, as often as asked, then answers again."""
    config = FakeNimConfig(rate_limit_after=1, rate_limit_count=2, retry_after_sec=3)
    with fake_nim(tmp_path, config) as fake:
        got = [fake.chat("hello") for _ in range(4)]
        assert [one.status for one in got] == [200, 429, 429, 200]
        assert got[1].headers["retry-after"] == "3"


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_first_completions_fail(tmp_path: Path, line: str) -> None:
    """fail_count completions get fail_status: JSON from a 1.x server, an HTML page from the proxy of 2.x."""
    with fake_nim(tmp_path, FakeNimConfig(line=line, fail_status=503, fail_count=2)) as fake:
        got = [fake.chat("hello") for _ in range(3)]
        assert [one.status for one in got] == [503, 503, 200]
        assert got[0].headers["content-type"] == ("application/json" if line == "1.x" else "text/html")


# The queue.


def test_queue_behind_max_num_seqs(tmp_path: Path) -> None:
    """No more than max_num_seqs run; the rest wait in order, and a client that leaves frees its slot."""
    record_dir = str(tmp_path / "record")
    config = FakeNimConfig(max_num_seqs=2, hang_prompts_containing="hang", record_dir=record_dir, record_requests=True)
    with fake_nim(tmp_path, config) as fake, contextlib.ExitStack() as stack:
        hanging = stack.enter_context(in_flight(fake, "hang 1", "hang 2"))
        wait_for_load(fake, 2, 0)
        for position, prompt in enumerate(("first", "second", "third"), start=1):
            stack.enter_context(in_flight(fake, prompt))
            wait_for_load(fake, 2, position)
        hanging[0].close()
        wait_for_load(fake, 1, 0)
        answered = [
            line["body"]["messages"][0]["content"] for line in fake.requests() if line["status"] == 200 and line["body"]
        ]
        assert answered == ["first", "second", "third"]


def test_a_waiting_client_may_leave(tmp_path: Path) -> None:
    """A client that leaves the queue takes its request with it."""
    config = FakeNimConfig(max_num_seqs=1, hang_prompts_containing="hang")
    with fake_nim(tmp_path, config) as fake, in_flight(fake, "hang"):
        with in_flight(fake, "impatient"):
            wait_for_load(fake, 1, 1)
        wait_for_load(fake, 1, 0)


def test_a_thousand_requests_in_flight(tmp_path: Path) -> None:
    """1,024 clients are held at once, and all are let go when they leave."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    try:
        with fake_nim(tmp_path, FakeNimConfig(hang_prompts_containing="hang")) as fake:
            with in_flight(fake, *["hang"] * 1024):
                wait_for_load(fake, 256, 768)
            wait_for_load(fake, 0, 0)
            assert fake.chat("hello").status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_each_choice_takes_a_slot(tmp_path: Path) -> None:
    """As in vLLM: three choices are three that run, and a request whose choices do not all fit waits."""
    with fake_nim(tmp_path, FakeNimConfig(max_num_seqs=4, hang_prompts_containing="hang")) as fake:
        with in_flight(fake, "hang", n=3), in_flight(fake, "hang", n=2):
            wait_for_load(fake, 3, 2)
        wait_for_load(fake, 0, 0)


def test_health_is_slow_only_under_load(tmp_path: Path) -> None:
    """slow_health_sec holds the health route back while a request is in the engine, and not otherwise."""
    config = FakeNimConfig(slow_health_sec=600.0, hang_prompts_containing="hang")
    with fake_nim(tmp_path, config) as fake:
        with in_flight(fake, "hang"):
            wait_for_load(fake, 1, 0)
            connection = http.client.HTTPConnection(HOST, fake.port, timeout=DEADLINE_SEC)
            connection.request("GET", "/v1/health/ready")
            connection.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.getresponse()
            connection.close()
        wait_for_load(fake, 0, 0)
        assert fake.get("/v1/health/ready").status == 200


# Breaking and dying.


@pytest.mark.parametrize("stream", [False, True])
def test_connection_reset_in_mid_body(tmp_path: Path, stream: bool) -> None:
    """reset_count completions end in a TCP reset after half the body; the next one is whole."""
    record_dir = str(tmp_path / "record")
    config = FakeNimConfig(reset_count=1, answer_tokens=200, record_dir=record_dir, record_requests=True)
    with fake_nim(tmp_path, config) as fake:
        with in_flight(fake, "hello", stream=stream) as (sock,):
            got = b""
            with pytest.raises(ConnectionResetError):
                while data := sock.recv(65_536):
                    got += data
        assert b"pad197" not in got
        assert b"pad197" in fake.chat("hello", stream=stream).body
        seen = [(line["status"], line["complete"]) for line in fake.requests() if line["path"] == CHAT]
        assert seen == [(200, False), (200, True)]


def test_crash_once(tmp_path: Path) -> None:
    """Exactly crash_after completions are answered, then it dies; the next start is healthy."""
    config = FakeNimConfig(crash_after=2, crash_once=True, exit_code=7, record_dir=str(tmp_path / "record"))
    with fake_nim(tmp_path, config) as fake:
        assert [fake.chat("hello").status for _ in range(2)] == [200, 200]
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            fake.chat("hello")
        assert fake.wait_exit() == 7
    with fake_nim(tmp_path, config) as fake:
        assert [fake.chat("hello").status for _ in range(4)] == [200] * 4
        assert len(fake.starts()) == 2


def test_crash_drops_what_is_in_flight(tmp_path: Path) -> None:
    """A crash does not wait for another request: the answer that makes it due drops the ones in flight."""
    config = FakeNimConfig(crash_after=1, hang_prompts_containing="hang")
    with fake_nim(tmp_path, config) as fake, in_flight(fake, "hang") as (sock,):
        wait_for_load(fake, 1, 0)
        assert fake.chat("hello").status == 200
        assert fake.wait_exit() == 1
        assert sock.recv(1) == b""


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_dead_engine_in_a_living_process(tmp_path: Path, line: str) -> None:
    """After engine_dead_after answers every completion is a 500 and ready is 503, while the process lives."""
    with fake_nim(tmp_path, FakeNimConfig(line=line, engine_dead_after=1)) as fake:
        assert fake.chat("hello").status == 200
        got = [fake.chat("hello") for _ in range(2)]
        assert [one.status for one in got] == [500, 500]
        assert error_of(line, got[0].json())["message"] == ENGINE_DEAD[line]
        assert fake.get("/v1/health/ready").status == 503
        assert fake.get("/v1/health/live").status == 200
        assert fake.process.poll() is None


def test_engine_dies_in_mid_stream(tmp_path: Path) -> None:
    """A stream that runs when the engine dies ends in an error event instead of a finish reason."""
    config = FakeNimConfig(engine_dead_after=1, seconds_per_token=0.05)
    with fake_nim(tmp_path, config) as fake, in_flight(fake, "word " * 1_000, stream=True) as (sock,):
        wait_for(lambda: fake.metric("generation_tokens_total") >= 1)
        assert fake.chat("hello").status == 200
        got = b""
        while b"[DONE]" not in got:
            got += sock.recv(65_536)
        assert b"Engine loop is not running" in got and b'"finish_reason":"stop"' not in got


def test_hanging_happens_once_where_asked(tmp_path: Path) -> None:
    """With crash_once a prompt that hung the first engine is answered by the next."""
    config = FakeNimConfig(hang_prompts_containing="hang", crash_once=True, record_dir=str(tmp_path / "record"))
    with fake_nim(tmp_path, config) as fake, in_flight(fake, "hang"):
        wait_for_load(fake, 1, 0)
        assert fake.metric("generation_tokens_total") == 0
    with fake_nim(tmp_path, config) as fake:
        assert fake.chat("hang").status == 200


@pytest.mark.parametrize(
    ("switches", "env", "said"),
    [
        (
            {"refuse_flag": "--api-server-count"},
            {"NIM_PASSTHROUGH_ARGS": "--foo 1 --api-server-count 4"},
            "vllm: error: unrecognized arguments: --api-server-count 4",
        ),
        (
            {},
            {"NIM_PASSTHROUGH_ARGS": "--headless --api-server-count 2"},
            "ValueError: --api-server-count=2 cannot be used with --headless",
        ),
        (
            {},
            {"NIM_PASSTHROUGH_ARGS": "--api-server-count 2", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
            "ValueError: VLLM_ALLOW_RUNTIME_LORA_UPDATING cannot be used with api_server_count > 1",
        ),
    ],
    ids=["unknown", "headless", "LoRA at run time"],
)
def test_flags_that_end_the_start(tmp_path: Path, switches: dict[str, Any], env: dict[str, str], said: str) -> None:
    """As vLLM ends, with its sentence last, and the start is noted."""
    with fake_nim(tmp_path, FakeNimConfig(line="2.x", **switches), env=env, ready=False) as fake:
        assert fake.wait_exit() == 2
        assert said in fake.log
        assert len(fake.starts()) == 1


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_several_api_servers(tmp_path: Path, line: str) -> None:
    """2.x says that it has them; 1.x reads no flags, not even those that 2.x would refuse."""
    env = {"NIM_PASSTHROUGH_ARGS": "--api-server-count 3"}
    with fake_nim(tmp_path, FakeNimConfig(line=line), env=env) as fake:
        assert ("Started 3 API server processes" in fake.log) is (line == "2.x")
