"""Everybody's models on top of the image: each kind starts, answers and stops, in every mode, on both lines of NIM."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from drum_process import Drum, parameters
from edge_world import KEY, READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for
from model_folders import MODES, model_folder, start_server
from models_page import examples

pytestmark = pytest.mark.drum

YAML = (Path(__file__).parent / "example-model-metadata.yaml").read_text(encoding="utf-8")
CHAT = {"model": "datarobot-deployed-llm", "messages": [{"role": "user", "content": "hello"}]}

COUNTED = """
import os
from pathlib import Path

def load_model(code_dir):
    with Path(os.environ["RUNS"]).open("a") as runs:
        print(os.getpid(), file=runs)
    Path(os.environ["NIM_CACHE_PATH"]).mkdir(parents=True, exist_ok=True)
    Path(os.environ["NIM_CACHE_PATH"], "weights").write_text("w")
    return "done"
"""

BARE_SCORE = """
import json
import urllib.request
import pandas as pd

def score(data, model, **kwargs):
    assert set(kwargs) >= {"base_url", "openai_client", "binary_data", "mimetype", "target_type"}, sorted(kwargs)
    with urllib.request.urlopen(kwargs["base_url"] + "/v1/models") as answer:
        served = json.load(answer)["data"][0]["id"]
    return pd.DataFrame({"resultText": [f"{model}={served}" for _ in data.index]})
"""

COMPLETE = """
import json
import pandas as pd
from openai.types import Model
from beside import EXCLAMATION

STATE = {}

def init(code_dir):
    STATE["init"] = code_dir

def load_model(code_dir):
    assert STATE["init"] == code_dir
    return {"anything": "else"}

def read_input_data(binary_data):
    return pd.DataFrame({"question": binary_data.decode().split("|")})

def transform(data, model):
    return data.assign(question=data["question"] + EXCLAMATION)

def score(data, model, openai_client, **kwargs):
    ask = lambda text: [{"role": "user", "content": text}]
    answers = [openai_client.chat.completions.create(model=model, messages=ask(text)) for text in data["question"]]
    return pd.DataFrame({"resultText": [answer.choices[0].message.content for answer in answers]})

def post_process(predictions, model):
    return predictions.apply(lambda column: column.str.upper())

def chat(params, model, openai_client):
    params = {**params, "model": model}
    params["messages"] = [{"role": "user", "content": "mine: " + params["messages"][-1]["content"]}]
    return openai_client.chat.completions.create(**params)

def get_supported_llm_models(model):
    return [Model(id="my-model", object="model", created=0, owned_by=model)]
"""

OLD = """
from nimdrum import hooks

def load_model(code_dir):
    return hooks.load_model(code_dir)

def read_input_data(binary_data):
    return hooks.read_input_data(binary_data)

def score(data, model, **kwargs):
    return hooks.score(data, model)

def chat(params, model, **kwargs):
    return hooks.chat(params, model, kwargs.get("headers"))

def get_supported_llm_models(model):
    return hooks.list_models(model)
"""
OLD_ROUTES = """
from nimdrum import hooks
from nimdrum.web.install import install

def init_app(app):
    install(app, hooks.loaded_model())
"""


def predicted(server: Drum, body: str = "promptText\n007\nNA\n") -> list[str]:
    answer = requests.post(f"{server.url}/predict/", data=body, headers={"Content-Type": "text/csv"}, timeout=READY_SEC)
    assert answer.status_code == 200, (answer.text, server.printed[-3000:])
    predictions: list[str] = answer.json()["predictions"]
    return predictions


def chatted(server: Drum) -> str:
    answer = requests.post(f"{server.url}/v1/chat/completions", json=CHAT, timeout=READY_SEC)
    assert answer.status_code == 200, (answer.text, server.printed[-3000:])
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def answers_as_ours(server: Drum, world: World) -> None:
    assert predicted(server) == ["echo: 007", "echo: NA"]
    assert chatted(server) == "echo: hello"


def uses_model_repo(server: Drum, world: World) -> None:
    """What the hook left is what the engine is started with; a key beside it stays out."""
    answers_as_ours(server, world)
    env = world.starts()[0]["env"]
    assert env["NIM_MODEL_NAME"] == env["NIM_MODEL_PATH"] == str(world.folder / "model" / "model-repo")
    assert "NGC_API_KEY" not in env


def uses_the_cache(server: Drum, world: World) -> None:
    answers_as_ours(server, world)
    assert (Path(world.starts()[0]["env"]["NIM_CACHE_PATH"]) / "weights").exists()


def has_the_variables(server: Drum, world: World) -> None:
    answers_as_ours(server, world)
    env = world.starts()[0]["env"]
    assert (env["NIM_KVCACHE_PERCENT"], env["MY_VARIABLE"]) == ("0.8", "mine")


def in_one_word(server: Drum, world: World) -> None:
    assert predicted(server, "promptText\nhello\nyou\n") == ["echo: In one word: hello", "echo: In one word: you"]
    assert chatted(server) == "echo: hello"


def names_the_model(server: Drum, world: World) -> None:
    assert predicted(server) == ["datarobot-deployed-llm=datarobot-deployed-llm"] * 2


def is_complete(server: Drum, world: World) -> None:
    assert predicted(server, "one|two") == ["ECHO: ONE!", "ECHO: TWO!"]
    assert chatted(server) == "echo: mine: hello"
    models = requests.get(f"{server.url}/v1/models", timeout=READY_SEC).json()["data"]
    assert [(model["id"], model["owned_by"]) for model in models] == [("my-model", "datarobot-deployed-llm")]


def says_hello(server: Drum, world: World) -> None:
    answers_as_ours(server, world)
    assert requests.get(f"{server.url}/hello", timeout=READY_SEC).json() == {"hello": "world"}
    assert "nimdrum_" in requests.get(f"{server.url}/metrics", timeout=READY_SEC).text


def is_unstructured(server: Drum, world: World) -> None:
    answer = requests.post(
        f"{server.url}/predictUnstructured/",
        data=json.dumps({"question": "who?"}),
        headers={"Content-Type": "application/json"},
        timeout=READY_SEC,
    )
    assert answer.json() == {"answer": "echo: who?"}, (answer.text, server.printed[-3000:])


@dataclass(frozen=True)
class Kind:
    """A kind of model: its files, and what its server must do."""

    files: dict[str, str]
    works: Callable[[Drum, World], None]


KINDS = {
    "nothing": Kind({}, answers_as_ours),
    "example yaml": Kind({"model-metadata.yaml": YAML}, answers_as_ours),
    "yaml of the page": Kind(examples("A list of parameters")[0], answers_as_ours),
    "load_model": Kind(examples("Weights")[0], uses_model_repo),
    "load_model and yaml": Kind({**examples("Weights")[0], "model-metadata.yaml": YAML}, uses_model_repo),
    "load_model fills the cache": Kind({"custom.py": COUNTED}, uses_the_cache),
    "engine_config.json": Kind(examples("Variables")[0], has_the_variables),
    "score with openai_client": Kind(examples("Your own score")[0], in_one_word),
    "score with nimdrum.complete": Kind(examples("Your own score")[1], in_one_word),
    "score without a client": Kind({"custom.py": BARE_SCORE}, names_the_model),
    "complete": Kind({"custom.py": COMPLETE, "beside.py": "EXCLAMATION = '!'"}, is_complete),
    "custom_flask.py": Kind(examples("Your own routes")[0], says_hello),
    "score_unstructured": Kind(examples("Another target type")[0], is_unstructured),
    "our hooks, copied": Kind({"custom.py": OLD, "custom_flask.py": OLD_ROUTES}, answers_as_ours),
}


def _matrix() -> list[Any]:
    """Every kind on every line in every mode. Two of each kind's are run always, the rest with `-m slow`."""
    cases = []
    for number, name in enumerate(KINDS):
        for line in ("1.x", "2.x"):
            for position, mode in enumerate(MODES):
                sampled = position == (number + (3 if line == "2.x" else 0)) % len(MODES)
                marks = () if sampled else (pytest.mark.chaos,)
                cases.append(pytest.param(KINDS[name], line, mode, id=f"{name}-{line}-{mode}", marks=marks))
    return cases


@pytest.mark.parametrize(("kind", "line", "mode"), _matrix())
def test_kind(world: World, kind: Kind, line: str, mode: str) -> None:
    """It starts, answers as it should, and its end leaves nothing (the world looks)."""
    world.fake(line=line)
    store = world.folder / "store"
    store.mkdir()
    (store / "config.json").write_text("{}")
    world.environ |= {"MODEL_STORE": str(store), "RUNS": str(world.folder / "runs")}
    with start_server(world, model_folder(world, kind.files), mode, **with_key(kind)) as server:
        server.wait_health(200)
        kind.works(server, world)
    assert len(world.starts()) == 1


def with_key(kind: Kind) -> dict[str, Any]:
    """A key beside a filled model-repo, as the example YAML invites to; system_prompt off, for echoes that are short."""
    given: dict[str, Any] = {"NGC_API_KEY": {"credentialType": "api_token", "apiToken": KEY}}
    return given if kind.works is uses_model_repo else {}


def runs(world: World) -> int:
    path = world.folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("mode", ["sync-2", "werkzeug-2"])
def test_load_model_runs_once(world: World, mode: str) -> None:
    """Not for each worker, not when one is killed, not when the engine is, and not when the supervisor is."""
    world.fake()
    world.environ["RUNS"] = str(world.folder / "runs")
    with start_server(world, model_folder(world, {"custom.py": COUNTED}), mode) as server:
        server.wait_health(200)
        if mode == "sync-2":
            wait_for(lambda: server.printed.count("http.ready") >= 2, READY_SEC)  # both have booted
            victim = psutil.Process(server.process.pid).children()[0]
            victim.kill()
            wait_for(lambda: server.printed.count("http.ready") >= 3, READY_SEC)  # and so has the one that replaces it
        os.kill(world.starts()[-1]["pid"], signal.SIGKILL)
        wait_for(lambda: len(world.starts()) == 2, READY_SEC)
        server.wait_health(200)
        supervisor = world.running("nimdrum.supervisor")[0]
        supervisor.kill()
        wait_for(lambda: len(world.starts()) == 3, READY_SEC)
        server.wait_health(200)
        answers_as_ours(server, world)
        assert runs(world) == 1
    world.wait_until_empty()


SLOW = """
import os
import time
from pathlib import Path

def load_model(code_dir):
    print("fetched 3 of 7 files")
    while not Path(os.environ["GO_ON"]).exists():
        time.sleep(0.05)
    return True
"""


def test_health_during_a_long_load_model(world: World) -> None:
    """503 while it works, with what it does and what it said last; requests wait; then the engine starts."""
    world.fake()
    go_on = world.folder / "go_on"
    world.environ["GO_ON"] = str(go_on)
    with start_server(world, model_folder(world, {"custom.py": SLOW})) as server:

        def said() -> bool:
            health = server.health()
            if health is None or health.status_code != 503 or "fetched 3 of 7 files" not in health.text:
                return False
            return bool(health.json()["message"].startswith("FETCHING for "))

        wait_for(said, READY_SEC)
        server.wait_for_line("[load_model] fetched 3 of 7 files")
        assert not world.starts()
        go_on.touch()
        server.wait_health(200)
        answers_as_ours(server, world)


def test_sigterm_during_load_model(world: World) -> None:
    """The platform gives up: the hook is ended, and nothing is left."""
    world.fake()
    world.environ["GO_ON"] = str(world.folder / "never")
    with start_server(world, model_folder(world, {"custom.py": SLOW})) as server:
        server.wait_for_line("fetched 3 of 7 files")
        server.process.send_signal(signal.SIGTERM)
        assert server.exit_code() == 0, server.printed[-3000:]
    world.wait_until_empty()
    assert not world.starts()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        pytest.param("return None", "load_model of custom.py failed: ValueError: it returned None.", id="none"),
        pytest.param(
            "raise OSError(f'no way to {KEY} there')",
            "load_model of custom.py failed (line 8): OSError: no way to ******** there.",
            id="raises",
        ),
        pytest.param("import os; os._exit(5)", "load_model of custom.py ended with code 5.", id="exits"),
        pytest.param("import os; os.kill(os.getpid(), 9)", "load_model of custom.py was killed", id="killed"),
    ],
)
def test_load_model_that_fails(world: World, body: str, sentence: str) -> None:
    """One sentence in health and log, never a second try, never a key that a credential parameter holds."""
    world.fake()
    world.environ["WITH_ERROR_SERVER"] = "1"
    code = f"""
import os, json
stored = json.loads(os.environ["MLOPS_RUNTIME_PARAM_MY_STORE"])
KEY = stored["payload"]["apiToken"]

def load_model(code_dir):
    print("begun")
    {body}
"""
    credential = {"credentialType": "api_token", "apiToken": KEY}
    with start_server(world, model_folder(world, {"custom.py": code}), MY_STORE=credential) as server:
        assert sentence in server.wait_health(513).json()["message"]
        server.wait_for_line("[load_model] begun")  # which another thread writes than the state
        assert server.printed.count("[load_model] begun") == 1
    assert not world.starts()


def test_load_model_that_fails_ends_the_server(world: World) -> None:
    world.fake()
    with start_server(world, model_folder(world, {"custom.py": "def load_model(code_dir):\n    1 / 0\n"})) as server:
        assert server.exit_code() == 3
        assert "load_model of custom.py failed (line 2): ZeroDivisionError: division by zero." in server.printed
    world.wait_until_empty()


VARIABLES = """
import json
import os
from pathlib import Path

def load_model(code_dir):
    os.environ["NIM_KVCACHE_PERCENT"] = "0.7"
    Path(code_dir, "engine_config.json").write_text(json.dumps({"env": {"FROM_CONFIG": "1"}}))
    return True
"""


def test_what_load_model_sets_reaches_the_engine(world: World) -> None:
    """As on DRUM's own road: variables of the process, and an engine_config.json that the hook writes. And the second
    worker finds the same engine."""
    world.fake(line="2.x")
    with start_server(world, model_folder(world, {"custom.py": VARIABLES}), "sync-2") as server:
        server.wait_health(200)
        wait_for(lambda: server.printed.count("http.ready") >= 2, READY_SEC)  # both have booted
        victim = psutil.Process(server.process.pid).children()[0]
        victim.kill()
        wait_for(lambda: server.printed.count("http.ready") >= 3, READY_SEC)
        answers_as_ours(server, world)
        (start,) = world.starts()
        assert (start["env"]["NIM_KVCACHE_PERCENT"], start["env"]["FROM_CONFIG"]) == ("0.7", "1")


def test_own_error_handling_stays_theirs(world: World) -> None:
    """A CustomHTTPError of a user's hook keeps its status; a before_request of theirs comes before our routes."""
    world.fake()
    files = {
        "custom.py": """
from datarobot_drum.drum.exceptions import CustomHTTPError

def score(data, model, **kwargs):
    raise CustomHTTPError("not today", 418)
""",
        "custom_flask.py": """
from flask import request

def init_app(app):
    @app.before_request
    def door():
        if request.path.startswith("/nim/"):
            return {"message": "closed"}, 401
""",
    }
    with start_server(world, model_folder(world, files)) as server:
        server.wait_health(200)
        refused = requests.post(
            f"{server.url}/predict/", data="promptText\nx\n", headers={"Content-Type": "text/csv"}, timeout=READY_SEC
        )
        assert (refused.status_code, refused.json()) == (418, {"message": "not today"})
        assert requests.get(f"{server.url}/nim/v1/models", timeout=READY_SEC).status_code == 401


def nimdrum(world: World, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {**world.environ, "NIMDRUM_STATE_DIR": str(world.state_root), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", "nimdrum", *arguments],
        env=environ,
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=READY_SEC,
    )


def test_drum_score_on_a_folder_with_the_example_yaml_alone(world: World) -> None:
    """The documented way at home; a parameters file sets what the user's YAML leaves out, and warns of what nobody
    knows with the nearest name."""
    world.fake(record_requests=True)
    model = model_folder(world, {"model-metadata.yaml": YAML})
    made = nimdrum(world, "code-dir", str(model))
    assert made.returncode == 0, made.stderr
    folder = Path(made.stdout.strip())
    assert nimdrum(world, "code-dir", str(model)).stdout.strip() == str(folder)
    rows, values = world.folder / "rows.csv", world.folder / "values.yaml"
    rows.write_text("promptText,max_tokens,temperature,messages\n007,many,hot,plain text\nNA,,,\n")
    values.write_text("temperature: 0.5\nsystem_prompt: Be brief.\n")
    command = ["drum", "score", "--language", "python", "--code-dir", str(folder), "--runtime-params-file", str(values)]
    environ = {
        **world.environ,
        "PATH": f"{Path(sys.executable).parent}:{world.environ['PATH']}",
        "TARGET_NAME": "resultText",
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
    }
    done = subprocess.run(
        [*command, "--input", str(rows), "--output", str(world.folder / "out.csv")],
        env=environ,
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=READY_SEC,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (world.folder / "out.csv").read_text().splitlines()[1].startswith("echo: 007,")
    bodies = [request["body"] for request in world.requests()]
    assert {(body["temperature"], body["max_tokens"]) for body in bodies} == {(0.5, 1024)}
    assert {body["messages"][0]["content"] for body in bodies} == {"Be brief."}


def test_unknown_variables_are_warned_about(world: World) -> None:
    """An environment variable for a parameter that nothing defines; the user's own and DRUM's are not meant."""
    world.fake()
    yaml = YAML + "\n  - fieldName: my_own\n    type: string\n    defaultValue: x\n"
    given = parameters(max_token=5, my_own="y", DRUM_WORKER_CONNECTIONS=50, LLM_ID="some")
    world.environ |= given
    with start_server(world, model_folder(world, {"model-metadata.yaml": yaml})) as server:
        server.wait_health(200)
        warned = [line for line in server.printed.splitlines() if "is not a runtime parameter" in line]
        assert len(warned) == 1, warned
        assert "max_token is not a runtime parameter; did you mean max_tokens?" in warned[0]


TALKS = """
import nimdrum

def read_input_data(binary_data):
    return nimdrum.read_input_data(binary_data)

def score(data, model, **kwargs):
    texts = list(data["promptText"])
    if texts == ["wrong"]:
        return nimdrum.complete(texts, max_token=5)
    talks = [[{"role": "system", "content": "S"}, {"role": "user", "content": text}] for text in texts]
    mixed = nimdrum.complete(["plain", talks[0]])
    assert list(mixed["resultText"]) == ["echo: plain", f"echo: {texts[0]}"], mixed
    assert list(nimdrum.complete(data, system_prompt=None)["resultText"]) == [f"echo: {text}" for text in texts]
    return nimdrum.complete(talks, n=2, max_tokens=5, temperature=0)
"""


def test_complete(world: World) -> None:
    """Texts, conversations, both, or a frame; parameters in the place of the runtime's; a misspelt one is told."""
    world.fake(record_requests=True)

    def predict(url: str, body: str) -> requests.Response:
        return requests.post(url, data=body, headers={"Content-Type": "text/csv"}, timeout=READY_SEC)

    with start_server(world, model_folder(world, {"custom.py": TALKS})) as server:
        server.wait_health(200)
        answer = predict(f"{server.url}/predict/", "promptText\n007\nb\n").json()
        assert answer["predictions"] == ["echo: 007", "echo: b"]
        assert "choice_2" in answer["extraModelOutput"]["columns"]
        bodies = [request["body"] for request in world.requests()]
        talks = [body for body in bodies if body.get("n") == 2]
        assert len(talks) == 2
        for body in talks:
            assert (body["max_tokens"], body["temperature"], body["messages"][0]["content"]) == (5, 0, "S")
        frame = [body for body in bodies if "temperature" not in body and len(body["messages"]) == 1]
        assert len(frame) == 2  # no system prompt
        wrong = predict(f"{server.url}/predict/", "promptText\nwrong\n")
        assert wrong.status_code == 500
        assert "max_token is not a runtime parameter; did you mean max_tokens?" in server.printed
