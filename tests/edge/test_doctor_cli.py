"""`doctor` as a person runs it: in fake images of both lines, with a fake nvidia-smi, and on a machine without either."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from drum_process import parameters
from edge_world import KEY, READY_SEC, TOKEN, World
from fake_nim.run import free_port, wait_for
from fake_nim.tools import H100, LISTING_2X, VLLM
from shell import Shell

CREDENTIAL = parameters(NGC_API_KEY={"credentialType": "api_token", "apiToken": KEY})
H100_LINE = "NVIDIA H100 80GB HBM3, 81559, 4, 580.65.06, Default"


class Machine:
    """A shell whose PATH has a fake nvidia-smi, and whose ports nobody else has."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.bin = shell.world.folder / "bin"
        self.bin.mkdir()
        shell.environ["PATH"] = f"{self.bin}:{shell.environ['PATH']}"
        shell.environ["ADDRESS"] = f"127.0.0.1:{free_port()}"
        shell.environ["HOME"] = str(shell.world.folder)
        self.code_dir = shell.world.code_dir
        shutil.copy(Path(__file__).resolve().parents[2] / "custom.py", self.code_dir)

    def nvidia_smi(self, *lines: str) -> None:
        script = self.bin / "nvidia-smi"
        script.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
        script.chmod(0o755)

    def gpus(self, *gpus: str) -> None:
        self.nvidia_smi(*(f"echo '{gpu}'" for gpu in gpus))

    def doctor(self, *options: str, environ: dict[str, str] | None = None) -> tuple[int, dict[str, dict[str, Any]]]:
        """Exit code, and the findings by name."""
        done = self.shell.run("doctor", "--json", "--code-dir", str(self.code_dir), *options, environ=environ)
        assert done.stdout.startswith("{"), done.stderr
        assert done.stderr == ""
        document = json.loads(done.stdout)
        assert document["ok"] == (done.returncode == 0)
        return done.returncode, {finding["name"]: finding for finding in document["findings"]}


@pytest.fixture
def machine(shell: Shell) -> Machine:
    return Machine(shell)


def problems(findings: dict[str, dict[str, Any]]) -> set[str]:
    """Without those that belong to the machine that runs the tests: its disk, and the packages of its Python."""
    found = {name for name, finding in findings.items() if finding["level"] == "problem"}
    return found - {"disk", "packages"}


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_a_container_in_which_a_nim_would_start(machine: Machine, line: str) -> None:
    """Every check finds what is there; nothing is left behind, the tool got the key, and nobody printed it."""
    listing = {"listing": LISTING_2X} if line == "2.x" else {}
    machine.shell.image(line, lines=("using {key}",), **listing)
    machine.gpus(H100_LINE)
    before = sorted(machine.shell.world.folder.rglob("*"))
    _, findings = machine.doctor(environ={**CREDENTIAL, **parameters(NIM_MODEL_PROFILE=VLLM)})
    assert problems(findings) <= {"ports"}  # 8001 may be taken
    assert findings["engine"]["message"].startswith(f"NIM {line}")
    assert findings["gpu"]["message"] == "1 x NVIDIA H100 80GB HBM3, 80 GiB"
    assert findings["key"]["message"] == "set: NGC_API_KEY (runtime parameter)"
    assert findings["profile"]["message"].endswith("runnable")
    assert machine.shell.calls()[0]["env"]["NGC_API_KEY"] == KEY
    new = {path.name for path in machine.shell.world.folder.rglob("*")} - {path.name for path in before}
    assert new <= {"tools.jsonl"}


def test_a_machine_without_gpu_and_nim(machine: Machine) -> None:
    """--cpu asks only what the embedded engine needs."""
    _, findings = machine.doctor("--cpu", environ=parameters(engine="nim"))
    assert problems(findings) == set()
    assert "gpu" not in findings
    assert "llama.cpp" in findings["engine"]["message"]


def test_many_problems_at_once(machine: Machine) -> None:
    """Each is found beside the others, and says what to do."""
    machine.shell.image("1.x")
    machine.nvidia_smi("echo 'Failed to initialize NVML' >&2", "exit 9")
    (machine.code_dir / ".old").mkdir()
    shutil.copy(machine.code_dir / "custom.py", machine.code_dir / ".old")
    (machine.code_dir / "model.zip").touch()
    (machine.code_dir / "model-repo").mkdir()
    (machine.code_dir / "model-repo/config.json").write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, findings = machine.doctor(environ={**CREDENTIAL, "ADDRESS": f"127.0.0.1:{port}"})
    assert code == 1
    assert problems(findings) == {"gpu", "ports"}
    assert [findings[name]["level"] for name in ("artifacts", "code folder")] == ["warning"] * 2
    assert f"{port} (DRUM" in findings["ports"]["message"]
    assert f"process {os.getpid()}" in findings["ports"]["message"]
    assert all(findings[name]["remedy"] for name in problems(findings))


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"NIM_SSL_MODE": "TLS"}, "sets NIM_SSL_MODE, with which the engine cannot work here: DRUM asks"),
        ({"NIM_NUM_COMPUTE_NODES": 2}, "sets NIM_NUM_COMPUTE_NODES, with which .*: one container is one node"),
    ],
)
def test_a_file_with_the_impossible(machine: Machine, env: dict[str, Any], words: str) -> None:
    """The sentence that the start would end with."""
    machine.shell.image("2.x")
    machine.gpus(H100_LINE)
    (machine.code_dir / "engine_config.json").write_text(json.dumps({"env": env}))
    code, findings = machine.doctor(environ=CREDENTIAL)
    assert code == 1
    assert findings["engine"]["level"] == "problem"
    assert re.search(words, findings["engine"]["message"])


def test_more_gpus_than_there_are(machine: Machine) -> None:
    """Told for a variable as for a profile."""
    machine.shell.image("2.x")
    machine.gpus(H100_LINE)
    (machine.code_dir / "engine_config.json").write_text('{"env": {"NIM_TENSOR_PARALLEL_SIZE": 4}}')
    _, findings = machine.doctor(environ=CREDENTIAL)
    assert findings["gpu"]["level"] == "problem"
    assert "is to use 4 GPUs (NIM_TENSOR_PARALLEL_SIZE 4), but 1 is visible here" in findings["gpu"]["message"]


def test_a_container_with_the_impossible(machine: Machine) -> None:
    """A warning: the engine starts without it."""
    machine.shell.image("2.x")
    machine.gpus(H100_LINE)
    _, findings = machine.doctor(environ={**CREDENTIAL, "NIM_SSL_MODE": "MTLS"})
    assert findings["engine"]["level"] == "warning"
    assert "NIM_SSL_MODE of the container is not passed to the engine" in findings["engine"]["message"]


@pytest.mark.parametrize(
    ("environ", "name", "words"),
    [
        (parameters(max_tokens=-5), "parameters", "max_tokens is -5"),
        ({"MLOPS_RUNTIME_PARAM_NGC_API_KEY": KEY}, "parameters", "NGC_API_KEY could not be read"),
        (parameters(NIM_MODEL_PROFILE=H100), "profile", "tensorrt_llm-h100-fp8-tp2-latency needs 2 GPUs, and 1"),
        (parameters(NIM_MODEL_PROFILE="f" * 64), "profile", "this image has no profile"),
        (
            parameters(NGC_API_KEY={"credentialType": "api_token", "apiToken": f'"{KEY}"'}),
            "key",
            "has blanks or quotes",
        ),
        (parameters(DR_NIM_SERVER_HOST="nim.example"), "engine", "DR_NIM_SERVER_HOST is 'nim.example'"),
        (parameters(engine="external", DR_NIM_SERVER_PORT=1), "external", "does not answer"),
        ({"NIM_CACHE_PATH": "/dev/null/cache"}, "cache", "/dev/null is no folder"),
    ],
    ids=["parameter", "unreadable key", "incompatible", "unknown profile", "odd key", "host", "external", "cache"],
)
def test_one_problem(machine: Machine, environ: dict[str, str], name: str, words: str) -> None:
    """What was set wrongly is named; a key in it is not shown."""
    machine.shell.image("1.x")
    machine.gpus(H100_LINE)
    code, findings = machine.doctor(environ={**CREDENTIAL, **environ})
    assert code == 1
    assert findings[name]["level"] == "problem"
    assert words in findings[name]["message"]


def test_what_is_set_elsewhere_counts(machine: Machine) -> None:
    """A key in engine_config.json is a key, and is not shown; weights that are fetched first need none, but a folder."""
    machine.shell.image("1.x")
    machine.gpus(H100_LINE)
    _, findings = machine.doctor(environ=parameters(model_artifacts_uri="s3://b/llm/"))
    assert findings["key"]["level"] == findings["fetch"]["level"] == "ok", findings
    assert "model-repo" in findings["fetch"]["message"]
    (machine.code_dir / "engine_config.json").write_text(json.dumps({"env": {"NGC_API_KEY": "nvapi-of-a-file"}}))
    _, findings = machine.doctor()
    assert findings["key"]["message"] == "set: NGC_API_KEY (engine_config.json)"


def test_programs_that_hang_do_not_hang_the_report(machine: Machine) -> None:
    """list-model-profiles with a child of its own is stopped at its limit, with all below it."""
    machine.shell.image("2.x", hangs=True, listing="")
    machine.gpus(H100_LINE)
    _, findings = machine.doctor("--profiles-timeout-sec", "1")
    assert findings["profile"]["message"] == "could not be looked at: list-model-profiles did not end within 1 s"


def test_a_signal_ends_it_and_what_it_runs(machine: Machine) -> None:
    """Ctrl-C at a tool that hangs; the world's fixture sees that nothing is left."""
    machine.shell.image("2.x", hangs=True, listing="")
    machine.gpus(H100_LINE)
    process = machine.shell.start("doctor", "--profiles-timeout-sec", "500")
    try:
        wait_for(lambda: bool(machine.shell.calls()), READY_SEC)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=READY_SEC)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGINT


def test_the_platform_is_asked_without_the_token(machine: Machine) -> None:
    """Any answer is an answer; who does not answer is a warning, not a problem."""
    seen: list[dict[str, str]] = []

    class Platform(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({"path": self.path, **self.headers})
            self.send_response(401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Platform)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        environ = {"DATAROBOT_ENDPOINT": f"http://user:{TOKEN}@127.0.0.1:{server.server_port}/api/v2/"}
        _, findings = machine.doctor("--cpu", environ=environ)
    finally:
        server.shutdown()
        server.server_close()
    assert findings["datarobot"]["level"] == "ok"
    assert seen[0]["path"] == "/api/v2/version/"
    _, findings = machine.doctor("--cpu", environ=environ)
    assert findings["datarobot"]["level"] == "warning"
    assert "ConnectionError" in findings["datarobot"]["message"]


def test_an_engine_of_this_user_is_seen(machine: Machine, world: World) -> None:
    """Its ports are not taken by a stranger, and its state is told."""
    world.fake(line="2.x")
    endpoint = world.ready_model().ready()
    environ = parameters(engine="nim", DR_NIM_SERVER_PORT=endpoint.port)
    _, findings = machine.doctor(environ=environ)
    assert findings["supervisor"]["message"].startswith("RUNNING NIM 2.x at http://127.0.0.1:")
    assert findings["ports"]["level"] == "ok"
    assert str(endpoint.port) in findings["ports"]["message"]


def test_without_drum_it_still_reports(machine: Machine) -> None:
    """DRUM reads the parameters; where it is missing, the other checks are made."""
    program = "import sys; sys.modules['datarobot_drum'] = None; from nimdrum.tools.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor", "--json"],
        cwd=Path(__file__).resolve().parents[2],
        env=machine.shell.environ,
        capture_output=True,
        text=True,
        timeout=READY_SEC,
    )
    assert done.returncode == 1, done.stderr
    (parameters_finding,) = [f for f in json.loads(done.stdout)["findings"] if f["name"] == "parameters"]
    assert "is DRUM installed?" in parameters_finding["message"]


def test_the_text_for_a_person(machine: Machine) -> None:
    """One line each, no longer than the terminal, the sum at the end; no colour codes where there is no terminal."""
    done = machine.shell.run("doctor", "--cpu", environ={"COLUMNS": "80"})
    assert done.returncode == ("problem" in done.stdout), done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("nimdrum ")
    assert "  ok       drum         DRUM" in done.stdout
    assert lines[-1].endswith(" ok")
    assert "\x1b" not in done.stdout


def test_a_run_that_is_only_planned(machine: Machine) -> None:
    """--params and --input are looked at as a start would, without one."""
    rows, params = machine.shell.world.folder / "rows.csv", machine.shell.world.folder / "params.yaml"
    rows.write_text("question\nwhy?\n")
    params.write_text("engine: llamacpp\nprompt_column_name: question\n")
    given = ("--params", str(params), "--input", str(rows))
    _, findings = machine.doctor(*given)
    assert findings["parameters"]["level"] == findings["input"]["level"] == "ok"
    assert "llama.cpp" in findings["engine"]["message"]
    params.write_text("max_token: 5\n")
    code, findings = machine.doctor(*given)
    assert code == 1
    assert "did you mean max_tokens?" in findings["parameters"]["message"]
    assert "it has question" in findings["input"]["message"]
