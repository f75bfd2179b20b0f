"""`nimdrum serve` and `nimdrum ask` as a person runs them: ready in one line, quiet, an answer as it comes, a clean end."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from edge_world import READY_SEC, REPOSITORY, TOKEN, World
from fake_datarobot import server as fake_server
from fake_datarobot.routing import Answer
from fake_datarobot.server import FakeDataRobot
from fake_nim.run import free_port, wait_for
from terminal import Session, session

pytestmark = pytest.mark.drum

LOG = re.compile(r"INFO |\[engine\]|Instrumentation|opentelemetry|HTTP/1\.1|Traceback|SystemExit")


def environ(world: World, **more: str) -> dict[str, str]:
    return {
        **world.environ,
        "PYTHONPATH": str(REPOSITORY),
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
        "NIMDRUM_LIST_PROFILES_SEC": "0",
        **more,
    }


@pytest.fixture
def gpu(world: World) -> dict[str, str]:
    """The environment of a machine in which start_server.sh sees a GPU, which the fake NIM does not need."""
    bin_dir = world.folder / "bin"
    bin_dir.mkdir()
    (bin_dir / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-0)'\n")
    (bin_dir / "nvidia-smi").chmod(0o755)
    return environ(world, PATH=f"{bin_dir}:{world.environ['PATH']}")


@pytest.fixture
def port() -> int:
    return free_port()


def serve(world: World, variables: dict[str, str], port: int, *options: str) -> "Iterator[Session]":
    return session(["serve", "--port", str(port), *options], variables, world.folder, 160)  # type: ignore[return-value]


def chat(port: int) -> requests.Response:
    body = {"messages": [{"role": "user", "content": "hello"}]}
    return requests.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=READY_SEC)


def hung_chat(port: int) -> None:
    with contextlib.suppress(requests.RequestException):
        chat(port)


@pytest.mark.parametrize("access_log", [False, True], ids=["quiet", "access log"])
def test_ready_is_one_line_and_ctrl_c_ends_it(world: World, gpu: dict[str, str], port: int, access_log: bool) -> None:
    """The address and what to type; a request is no line unless asked for; after Ctrl-C no stack and no process."""
    world.fake(line="2.x", chatty_lines=20)
    with serve(world, gpu, port, *(["--access-log"] if access_log else [])) as shown:
        shown.read_on("/predict/")
        ready = [line for line in shown.last if line.startswith("Ready after ")]
        assert len(ready) == 1, shown.last
        assert ready[0].endswith(f" s on http://127.0.0.1:{port}")
        assert any('"stream": true' in line for line in shown.last)
        assert chat(port).status_code == 200
        if access_log:
            shown.read_on('"POST /v1/chat/completions HTTP/1.1" 200')
        os.write(shown.descriptor, b"\x03")
        assert shown.exit_code() == 0, shown.last
        world.wait_until_empty()
    # The supervisor's own line of this may come after the server's health, as if the engine were back.
    logged = [line for line in shown.seen if LOG.search(line) and "engine.running" not in line]
    assert bool(logged) == access_log, logged
    assert shown.last[-1].endswith("Stopping. Ctrl-C again does not wait for requests in flight.")


def test_a_second_ctrl_c_does_not_wait(world: World, gpu: dict[str, str], port: int) -> None:
    """A request that never ends keeps a server for minutes; who presses twice has the prompt back."""
    world.fake(line="2.x", hang_prompts_containing="hello")
    with serve(world, gpu, port) as shown:
        shown.read_on("/predict/")
        caller = threading.Thread(target=hung_chat, args=(port,), daemon=True)
        caller.start()
        page = f"http://127.0.0.1:{port}/metrics"
        running = re.compile(r"num_requests_running\S* 1(\.0)?$", re.MULTILINE)
        wait_for(lambda: bool(running.search(requests.get(page, timeout=READY_SEC).text)), READY_SEC)
        os.write(shown.descriptor, b"\x03")
        shown.read_on("Stopping.")
        os.write(shown.descriptor, b"\x03")
        assert shown.exit_code() == 130, shown.last
        caller.join(READY_SEC)
    world.wait_until_empty()


def test_killed_it_leaves_nothing(world: World, gpu: dict[str, str], port: int) -> None:
    """SIGKILL, which nobody can handle: the server dies with it, and the supervisor stops the engine."""
    world.fake(line="2.x")
    with serve(world, gpu, port) as shown:
        shown.read_on("/predict/")
        shown.process.kill()
        shown.process.wait()
        world.wait_until_empty()


def test_a_start_that_fails_tells_the_cause(world: World, gpu: dict[str, str], port: int) -> None:
    """The server's own exit code, and the sentence."""
    world.fake(die_before_ready=True, last_lines=("Detected 0 compatible profile(s).",))
    with serve(world, gpu, port) as shown:
        assert shown.exit_code() == 3, shown.last
    assert any("No model profile runs on the free GPUs here" in line for line in shown.seen)
    assert not any("Traceback" in line for line in shown.seen)


def ask(variables: dict[str, str], cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "nimdrum", "ask", *arguments],
        env=variables,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=READY_SEC,
    )


def test_ask_a_server_and_an_engine_that_runs(world: World, gpu: dict[str, str], port: int) -> None:
    """By its address, or without one the engine of this user; what was cut says so."""
    world.fake(line="2.x")
    with serve(world, gpu, port) as shown:
        shown.read_on("/predict/")
        for where in (["--url", f"http://127.0.0.1:{port}"], []):
            done = ask(gpu, world.folder, "one two three", *where)
            assert (done.returncode, done.stdout, done.stderr) == (0, "echo: one two three\n", ""), done.stderr
        done = ask(gpu, world.folder, "one two three", "--max-tokens", "2")
        assert done.returncode == 0
        assert done.stderr == "(cut at 2 tokens: give more with --max-tokens)\n"
        os.write(shown.descriptor, b"\x03")
        assert shown.exit_code() == 0


def test_ask_starts_an_engine_where_none_runs(world: World) -> None:
    """For the one answer; nothing of it is left, and nothing of its log is seen."""
    world.fake(line="2.x", chatty_lines=20)
    done = ask(environ(world), world.folder, "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "echo: hello\n", "")
    assert world.processes() == []


def events(*datas: str) -> bytes:
    return "".join(f"data: {data}\n\n" for data in datas).encode()


def piece(text: str, reason: str | None = None) -> str:
    end = f'"{reason}"' if reason else "null"
    return f'{{"id": "x", "choices": [{{"index": 0, "delta": {{"content": "{text}"}}, "finish_reason": {end}}}]}}'


@pytest.mark.parametrize(
    ("body", "status", "exit_code", "out", "err"),
    [
        (events(piece("Good "), piece("day.", "stop"), "[DONE]"), 200, 0, "Good day.\n", ""),
        (events(piece("Good ")), 200, 1, "Good \n", "The answer broke off: its stream ended without a reason."),
        (events(piece("Good "), '{"error": {"message": "it crashed"}}'), 200, 1, "Good \n", "it crashed"),
        (f'{{"message": "no right for {TOKEN}"}}'.encode(), 403, 1, "\n", "no right for"),
    ],
    ids=["whole", "cut", "error event", "refused"],
)
def test_ask_a_deployment(world: World, body: bytes, status: int, exit_code: int, out: str, err: str) -> None:
    """With the key from the environment, which is not shown; a stream that is cut is an error."""
    fake = FakeDataRobot(TOKEN)
    with fake_server.running(fake) as server:
        server.answers["POST", "deployments/5f/chat/completions"] = Answer(body, status)
        variables = environ(world, DATAROBOT_ENDPOINT=server.endpoint, DATAROBOT_API_TOKEN=TOKEN)
        for deployment in ("5f", f"{server.endpoint}/deployments/5f/chat/completions"):
            done = ask(variables, world.folder, "hello", "--deployment", deployment)
            assert (done.returncode, done.stdout) == (exit_code, out), done.stderr
            assert err in done.stderr
            assert TOKEN not in done.stdout + done.stderr
        assert all(request.json["model"] == "datarobot-deployed-llm" for request in fake.seen)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "http://127.0.0.1:9"], "Nothing answers at http://127.0.0.1:9/v1"),
        (["--deployment", "5f"], "Set DATAROBOT_ENDPOINT"),
    ],
)
def test_ask_nobody(world: World, arguments: list[str], words: str) -> None:
    """One line that says what to do."""
    done = ask({**environ(world), "HOME": str(world.folder)}, world.folder, "hello", *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
