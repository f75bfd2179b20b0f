"""Users' models in the container: one of each kind, as DataRobot copies their files over /opt/code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from images import Image
from models_page import examples
from sandbox import INSIDE, Sandbox
from server_container import Container, run_image, runtime_parameter
from test_image import described

EXAMPLE = Path(__file__).resolve().parents[1] / "edge" / "example-model-metadata.yaml"
SCORED = {"promptText\nhello\n": ["echo: hello"]}
IN_ONE_WORD = {"promptText\nhello\n": ["echo: In one word: hello"]}
COMPLETE = """
import pandas as pd

def load_model(code_dir):
    return object()

def score(data, model, base_url, **kwargs):
    return pd.DataFrame({"resultText": [f"{model} at {base_url[:17]}" for _ in data.index]})

def chat(params, model, openai_client):
    return openai_client.chat.completions.create(**{**params, "model": model})
"""
STORE = "--volume={}/tmp/store:/store:ro"
KINDS: dict[str, tuple[Mapping[str, str], Mapping[str, list[str]]]] = {
    "nothing": ({}, SCORED),
    "example yaml": ({"model-metadata.yaml": EXAMPLE.read_text(encoding="utf-8")}, SCORED),
    "load_model": (examples("Weights")[0], SCORED),
    "engine_config.json": (examples("Variables")[0], SCORED),
    "score with openai_client": (examples("Your own score")[0], IN_ONE_WORD),
    "score with nimdrum.complete": (examples("Your own score")[1], IN_ONE_WORD),
    "complete": ({"custom.py": COMPLETE}, {"promptText\nhello\n": ["datarobot-deployed-llm at http://127.0.0.1:"]}),
    "custom_flask.py": (examples("Your own routes")[0], SCORED),
    "score_unstructured": (examples("Another target type")[0], {}),
}


def mounted(sandbox: Sandbox, files: Mapping[str, str]) -> list[str]:
    """The files as the platform puts them into /opt/code."""
    folder = sandbox.folder / "tmp" / "model"
    folder.mkdir(exist_ok=True)
    options = []
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
        options.append(f"--volume={INSIDE}/tmp/model/{name}:/opt/code/{name}:ro")
    return options


def started(container: Container) -> dict[str, str]:
    """The environment that the fake NIM was started with."""
    text = container.execute("cat", "/tmp/record/starts.jsonl")
    first: dict[str, Any] = json.loads(text.splitlines()[0])
    environment: dict[str, str] = first["env"]
    return environment


@pytest.mark.parametrize("kind", KINDS)
def test_kind(sandbox: Sandbox, image: Image, kind: str) -> None:
    """It starts, answers and ends; a key beside a filled model-repo stays out."""
    files, scored = KINDS[kind]
    store = sandbox.folder / "tmp" / "store"
    store.mkdir(exist_ok=True)
    (store / "config.json").write_text("{}")
    key = runtime_parameter(
        "NGC_API_KEY", "credential", {"credentialType": "api_token", "apiToken": "nvapi-made-up-key"}
    )
    options = [*mounted(sandbox, files), STORE.format(INSIDE), "--env=MODEL_STORE=/store", key]
    switches = {"load_until": "", "record_dir": "/tmp/record"}
    with run_image(sandbox, image.name, *options, line=image.line, **switches) as container:
        container.wait_health(200)
        for body, answers in scored.items():
            predicted = container.post("/predict/", data=body.encode(), headers={"Content-Type": "text/csv"})
            assert predicted.json()["predictions"] == answers, (predicted.text, container.log[-3000:])
        environment = started(container)
        if kind == "load_model":
            assert environment["NIM_MODEL_PATH"] == "/opt/code/model-repo"
            assert "NGC_API_KEY" not in environment
        else:
            assert environment["NGC_API_KEY"] == "nvapi-made-up-key"
        if kind == "engine_config.json":
            assert environment["MY_VARIABLE"] == "mine"
        if kind == "custom_flask.py":
            assert container.get("/hello").json() == {"hello": "world"}
        if kind == "score_unstructured":
            question = {"data": b'{"question": "who?"}', "headers": {"Content-Type": "application/json"}}
            assert container.post("/predictUnstructured/", **question).json() == {"answer": "echo: who?"}
        assert container.stop()[0] == 0, container.log[-4000:]


NOT_THE_ENGINES = {"VIRTUAL_ENV", "CODE_DIR", "ADDRESS", "WITH_ERROR_SERVER"}
CHANGED = {"PATH"}
ADDED = {
    *("NIM_SERVER_PORT", "NIM_HEALTH_PORT", "NIM_SERVED_MODEL_NAME", "NIM_LOG_LEVEL", "NIMDRUM_ENGINE_OF"),
    *("HOSTNAME", "TERM", "container", "USER", "LOGNAME"),  # of the container and its user
    *("PWD", "LC_CTYPE"),  # NIM's shell and the fake's Python set them for themselves
}


def test_the_engines_environment(sandbox: Sandbox, image: Image) -> None:
    """The image's, but for the lists of docs/container.md; what the image sets for itself arrives as it is."""
    theirs = {
        "BASH_ENV": "/etc/bash.bashrc",
        "_CUDA_COMPAT_PATH": "/usr/local/cuda/compat",
        "DYN_LOG": "info",
        "MINE": "x",
    }
    secrets = {
        "DB": "postgresql://u:made-up-password@db/x",
        "MY_TOKEN": "made-up-token",
        "DATAROBOT_ENDPOINT": "https://x",
    }
    options = [f"--env={name}={value}" for name, value in {**theirs, **secrets}.items()]
    image_env = dict(entry.split("=", 1) for entry in described(sandbox, image.name)["Config"]["Env"])
    switches = {"load_until": "", "record_dir": "/tmp/record"}
    with run_image(sandbox, image.name, *options, line=image.line, **switches) as container:
        container.wait_health(200)
        environment = started(container)
        container.stop()
    expected = {**image_env, **theirs}
    assert set(expected) - set(environment) == NOT_THE_ENGINES
    assert {name for name in expected.keys() & environment if expected[name] != environment[name]} <= CHANGED
    assert set(environment) - set(expected) <= ADDED
