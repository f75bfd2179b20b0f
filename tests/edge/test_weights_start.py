"""Weights and the start of an engine: every route through the real chain, and the fetch that the supervisor owns."""

import contextlib
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from drum_process import drum_score, drum_server
from edge_world import KEY, READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for
from model_folders import model_folder, start_server
from s3_server import BUCKET, CREDENTIAL, S3Server
from test_events import deployed, platform

from nimdrum.base.errors import EngineStartError, SettingsError
from nimdrum.engines.llamacpp import embedded_model
from nimdrum.scoring.score import score_frame
from nimdrum.session.model import Model
from nimdrum.supervisor.state import EngineState, Phase

__all__ = ["platform"]
pytestmark = pytest.mark.xdist_group("weights")
REQUEST = 16 * 1024 * 1024
NO_KEY = ("NGC_API_KEY", "NGC_CLI_API_KEY", "HF_TOKEN", "MODELSCOPE_API_TOKEN")
ROUTES = "NIM_MODEL_NAME NIM_MODEL_PATH HF_HUB_OFFLINE NIM_REPOSITORY_OVERRIDE NIM_DISABLE_MODEL_DOWNLOAD NIM_FT_MODEL".split()
"""Variables by which NIM tells the routes apart."""
AWS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}


@pytest.fixture
def s3(s3: S3Server) -> S3Server:
    """The server with a tree in its bucket: a configuration, and a model of two parts."""
    s3.put("config.json", b"{}")
    s3.put("model.bin", b"w" * (2 * REQUEST))
    return s3


def fetched(s3: S3Server, **changes: Any) -> dict[str, Any]:
    return {"model_artifacts_uri": s3.uri(), "model_artifacts_credential": CREDENTIAL, **changes}


def state_of(model: Model) -> EngineState:
    state = model.attachment.state()
    assert state is not None
    return state


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("line", ["1.x", "2.x"])
@pytest.mark.parametrize(
    "route",
    [
        "download",
        "cache",
        "local model",
        "mounted model",
        "cached URI",
        "mirror",
        "image",
        "fetched model",
        "fetched cache",
    ],
)
def test_each_route_reaches_the_engine(
    world: World, s3: S3Server, line: str, route: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The fake NIM sees exactly the variables of its route, keys only where they belong, and the log says why once."""
    world.environ |= {"HF_TOKEN": KEY} if route not in ("cache", "cached URI") else {}
    parameters: dict[str, Any] = {}
    expected: dict[str, str] = {}
    keys = {"HF_TOKEN": KEY} if route in ("download", "mirror") else {}
    cache = world.folder / "cache"
    if route == "download":
        parameters["NGC_API_KEY"] = {"credentialType": "api_token", "apiToken": KEY}
        keys["NGC_API_KEY"] = KEY
    elif route in ("cache", "cached URI"):
        fill(cache)
        parameters["NIM_MODEL_PROFILE"] = "a" * 64
        if route == "cached URI":
            world.environ["NIM_MODEL_PATH"] = "hf://org/model"
            expected = {"NIM_MODEL_PATH": "hf://org/model", "HF_HUB_OFFLINE": "1"}
    elif route == "mounted model":
        folder = str(fill(world.folder / "mounted"))
        world.environ["NIM_MODEL_NAME"] = folder
        expected = {"NIM_MODEL_NAME": folder, "NIM_MODEL_PATH": folder, "HF_HUB_OFFLINE": "1"}
    elif route == "mirror":
        world.environ |= {"NIM_REPOSITORY_OVERRIDE": "s3://mirror/", **AWS}
        expected = {"NIM_REPOSITORY_OVERRIDE": "s3://mirror/"}
    elif route == "image":
        world.environ["NIM_DISABLE_MODEL_DOWNLOAD"] = "1"
        expected = {"NIM_DISABLE_MODEL_DOWNLOAD": "1"}
    elif route == "fetched cache":
        parameters = fetched(s3, model_artifacts_target="cache", NIM_MODEL_PROFILE="a" * 64)
    if route in ("local model", "fetched model"):
        folder = str(world.code_dir / "model-repo")
        expected = {"NIM_MODEL_NAME": folder, "NIM_MODEL_PATH": folder, "HF_HUB_OFFLINE": "1"}
        if route == "local model":
            fill(Path(folder))
        else:
            parameters = fetched(s3)
    world.fake(line=line)
    model = world.ready_model(**parameters)
    (start,) = world.starts()
    env = start["env"]
    assert {name: env[name] for name in ROUTES if name in env} == expected
    assert {name: env[name] for name in NO_KEY if name in env} == keys
    assert {name: env[name] for name in env if name.startswith("AWS_")} == (AWS if route == "mirror" else {})
    assert not [name for name, value in env.items() if str(CREDENTIAL["awsSecretAccessKey"]) in value]
    if route.startswith("fetched"):
        assert ((cache if "cache" in route else Path(folder)) / "model.bin").stat().st_size == 2 * REQUEST
    model.attachment.release(READY_SEC)
    said = [text for text in capfd.readouterr().err.splitlines() if "weights.route" in text]
    assert len(said) == 1
    name = "local model" if route == "mounted model" else route
    assert f"route={json.dumps(name) if ' ' in name else name} why=" in said[0]


def test_fine_tuned_weights_reach_a_1x(world: World) -> None:
    """NIM_FT_MODEL goes through as it is; without a key nothing is added, on 2.x it is refused with the other name."""
    folder = str(fill(world.folder / "tuned"))
    world.environ["NIM_FT_MODEL"] = folder
    fill(world.folder / "cache")
    world.fake(line="1.x")
    world.ready_model()
    env = world.starts()[0]["env"]
    assert {name: env[name] for name in (*ROUTES, *NO_KEY) if name in env} == {"NIM_FT_MODEL": folder}
    other = World(world.folder / "other", world.environ)
    other.fake(line="2.x")
    with pytest.raises(SettingsError, match="NIM_MODEL_PATH"):
        other.model()


def test_a_credential_for_the_mirror_is_given_to_nim(world: World) -> None:
    """NIM reads the mirror itself, so it gets DataRobot's s3 credential under the names that it knows."""
    world.environ["NIM_MODEL_PATH"] = f"s3://{BUCKET}/llm"
    world.fake(line="2.x")
    world.ready_model(model_artifacts_credential=CREDENTIAL)
    env = world.starts()[0]["env"]
    assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == (
        CREDENTIAL["awsAccessKeyId"],
        CREDENTIAL["awsSecretAccessKey"],
    )


def test_the_fetch_is_seen_and_its_time_does_not_count(world: World, s3: S3Server) -> None:
    """FETCHING with the progress while it takes longer than startup_timeout_sec; then the engine starts as always."""
    s3.fault(bytes_per_sec=1.5e6)
    world.fake(line="2.x")
    model = world.model(**fetched(s3, startup_timeout_sec=20))
    seen: list[EngineState] = []

    def ready() -> bool:
        seen.append(state_of(model))
        return seen[-1].phase is Phase.RUNNING

    wait_for(ready, READY_SEC)
    fetching = [state for state in seen if state.phase is Phase.FETCHING]
    assert any("weights.fetching percent=" in line for state in fetching for line in state.last_lines)
    assert fetching[-1].engine_pid is None
    assert state_of(model).restarts == 0
    assert len(world.starts()) == 1


def test_waiting_for_a_fetch_is_not_waiting_for_the_engine(world: World, s3: S3Server) -> None:
    """`drum score` waits as long as the fetch moves, though its limit for the engine is far shorter."""
    s3.fault(bytes_per_sec=1.5e6)
    world.fake(line="2.x")
    model = world.model(**fetched(s3))
    began_fetching = state_of(model).phase is Phase.FETCHING
    assert model.attachment.wait_ready(20.0, fetch_counts=False).model == "datarobot-deployed-llm"
    assert began_fetching


@pytest.mark.parametrize("fault", ["bucket", "status"])
def test_a_failed_fetch_is_a_failed_start(world: World, s3: S3Server, fault: str) -> None:
    """The sentence of the fetch is the cause; no engine is started, nothing is tried again, no weights are left."""
    world.fake(line="2.x")
    parameters = fetched(s3)
    if fault == "bucket":
        parameters["model_artifacts_uri"] = s3.uri(bucket="nobody")
    else:
        s3.fault(status=403)
    model = world.model(**parameters)
    with pytest.raises(EngineStartError, match="does not exist" if fault == "bucket" else "may not read"):
        model.ready(READY_SEC)
    assert state_of(model).phase is Phase.FATAL
    assert world.starts() == []
    assert not list((world.code_dir / "model-repo").rglob("*.bin"))


def test_a_wrong_uri_or_credential_starts_nothing(world: World) -> None:
    """Seen from the settings alone."""
    world.fake(line="2.x")
    for parameters, says in (
        ({"model_artifacts_uri": "bucket/llm"}, "must begin with"),
        (
            {"model_artifacts_uri": "gs://b/llm", "model_artifacts_credential": CREDENTIAL},
            "needs one of type gcp",
        ),
        ({"model_artifacts_uri": "s3://b/llm", "engine": "external"}, "external"),
        ({"model_artifacts_uri": "s3://b/llm", "model_artifacts_target": "disk"}, "allowed are model, cache"),
    ):
        with pytest.raises(SettingsError, match=says):
            world.model(**parameters)


def test_letting_go_ends_a_fetch(world: World, s3: S3Server) -> None:
    """Nobody wants the engine any more: the fetch is stopped, and nothing has its final name."""
    s3.fault(bytes_per_sec=2e6)
    world.fake(line="2.x")
    model = world.model(**fetched(s3))
    wait_for(lambda: any("weights.fetching" in line for line in state_of(model).last_lines), READY_SEC)
    model.attachment.release(READY_SEC)
    world.wait_until_empty()
    assert world.starts() == []
    assert not list((world.code_dir / "model-repo").glob("[!.]*"))


def test_a_fetch_that_is_killed_is_taken_up_again(world: World, s3: S3Server) -> None:
    """By the supervisor, after its back-off; the engine then starts."""
    s3.fault(bytes_per_sec=2e6)
    world.fake(line="2.x")
    model = world.model(**fetched(s3))
    wait_for(lambda: any("weights.fetching" in line for line in state_of(model).last_lines), READY_SEC)
    (process,) = world.running("nimdrum.weights")
    process.kill()
    s3.fault()
    model.ready(READY_SEC)
    assert state_of(model).restarts == 1
    assert len(world.starts()) == 1


def test_a_supervisor_that_is_killed_takes_the_fetch_along(world: World, s3: S3Server) -> None:
    """And the next one goes on with it."""
    s3.fault(bytes_per_sec=5e6)
    world.fake(line="2.x")
    model = world.model(**fetched(s3))
    wait_for(lambda: any("weights.fetching" in line for line in state_of(model).last_lines), READY_SEC)
    fetches = world.running("nimdrum.weights")
    os.kill(state_of(model).supervisor_pid, signal.SIGKILL)
    psutil.wait_procs(fetches, timeout=READY_SEC)
    s3.fault()
    model.ready(READY_SEC)
    assert len(world.starts()) == 1


def test_the_store_is_not_needed_again(world: World, s3: S3Server) -> None:
    """A second start finds the whole tree, and starts though the store is gone."""
    world.fake(line="2.x")
    model = world.ready_model(**fetched(s3))
    model.attachment.release(READY_SEC)
    world.wait_until_empty()
    s3.fault(status=500)
    world.ready_model(**fetched(s3))
    assert len(world.starts()) == 2


def test_progress_reaches_the_platform(world: World, s3: S3Server, platform: tuple[str, list]) -> None:
    """Stages in DataRobot's order, the tenths of the download among them."""
    endpoint, seen = platform
    deployed(world, endpoint)
    s3.fault(bytes_per_sec=10e6)
    world.fake(line="2.x")
    world.ready_model(**fetched(s3))
    wait_for(lambda: any("is ready" in payload["message"] for _, _, payload in seen), READY_SEC)
    titles = [payload["title"][-8] for _, _, payload in seen]
    assert titles == sorted(titles)
    assert any("% of the weights are here" in payload["message"] for _, _, payload in seen)


@pytest.mark.engine
def test_the_real_engine_answers_with_fetched_weights(
    world: World, s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The package's GGUF, served by the store as the one GGUF of a folder, is fetched, loaded, and answers."""
    caplog.set_level(logging.INFO)
    gguf = embedded_model()
    assert gguf is not None
    data = gguf.read_bytes()
    s3.put_in_parts("model.gguf", data, 8 * 1024 * 1024, "gguf/")
    s3.put("README.md", b"# a model\n", "gguf/")
    model = world.ready_model(**fetched(s3, model_artifacts_uri=s3.uri("gguf/")), max_tokens=8, temperature=0)
    frame = pd.DataFrame({"promptText": ["Name one animal."]}, dtype=object)
    out = score_frame(frame, model)
    assert out["row_error"][0] == ""
    assert out["resultText"][0]
    argv = psutil.Process(state_of(model).engine_pid).cmdline()
    assert argv[argv.index("--model") + 1] == str(world.code_dir / "model-repo")
    assert (world.code_dir / "model-repo/model.gguf").read_bytes() == data


@pytest.mark.engine
def test_a_folder_with_two_ggufs_is_refused(world: World, s3: S3Server) -> None:
    """The cause says to name the one."""
    for name in ("a.gguf", "b.gguf"):
        s3.put(name, b"GGUF", "two/")
    with pytest.raises(EngineStartError, match="name the one file"):
        world.model(engine="llamacpp", **fetched(s3, model_artifacts_uri=s3.uri("two/"))).ready(READY_SEC)


@pytest.fixture
def hooks(world: World) -> Path:
    """A code folder of its own: the repository's model-repo must stay empty."""
    for name in ("custom.py", "custom_flask.py", "model-metadata.yaml"):
        with contextlib.suppress(FileExistsError):
            (world.code_dir / name).write_bytes((REPOSITORY / name).read_bytes())
    (world.code_dir / "nimdrum").symlink_to(REPOSITORY / "nimdrum")
    return world.code_dir


@pytest.mark.drum
def test_a_server_says_how_far_it_is(world: World, s3: S3Server, hooks: Path) -> None:
    """503 with the progress of the fetch, then 200, with two workers and one fetch."""
    s3.fault(bytes_per_sec=5e5)
    world.fake(line="2.x")
    with drum_server(world, worker_class="sync", workers=2, code_dir=hooks, **fetched_parameters(s3)) as drum:
        fetching: list[str] = []

        def told() -> bool:
            answer = drum.health()
            if answer is not None and answer.status_code == 503 and "weights.fetching" in answer.text:
                fetching.append(answer.json()["message"])
            return bool(fetching) or drum.process.poll() is not None

        wait_for(told, READY_SEC)
        assert fetching, drum.printed[-3000:]
        assert "FETCHING for" in fetching[0]
        assert "percent=" in fetching[0]
        s3.fault()
        drum.wait_health(200)
        assert len(world.starts()) == 1
        reads = [read["first"] for read in s3.reads() if read["key"] == "llm/model.bin" and read["bytes"]]
        assert len(reads) == len(set(reads)) == 2


@pytest.mark.drum
@pytest.mark.parametrize("mode", ["server", "score"])
def test_a_failed_fetch_ends_drum(world: World, s3: S3Server, hooks: Path, tmp_path: Path, mode: str) -> None:
    """`drum server` with code 3, `drum score` with 1; the sentence is in the log."""
    world.fake(line="2.x")
    parameters = fetched_parameters(s3, bucket="nobody")
    if mode == "server":
        with drum_server(world, worker_class="sync", code_dir=hooks, **parameters) as drum:
            assert drum.exit_code() == 3
    else:
        rows = tmp_path / "rows.csv"
        rows.write_text("promptText\nhello\n")
        with drum_score(world, rows, tmp_path / "out.csv", code_dir=hooks, **parameters) as drum:
            assert drum.exit_code() == 1
    assert "bucket or container nobody of s3://nobody/llm/ does not exist" in drum.printed
    world.wait_until_empty()


def fetched_parameters(s3: S3Server, bucket: str = BUCKET) -> dict[str, Any]:
    return {"model_artifacts_uri": s3.uri(bucket=bucket), "model_artifacts_credential": CREDENTIAL}


@pytest.mark.drum
def test_a_users_own_hook_may_fetch(world: World, s3: S3Server) -> None:
    """The page's example: `nimdrum.weights.fetch` in load_model, then the local route."""
    page = (REPOSITORY / "docs/weights/fetch.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    assert "fetch(uri, " in example
    uri = next(line for line in example.splitlines() if "uri = " in line)
    model = model_folder(world, {"custom.py": example.replace(uri, f"    uri = {s3.uri()!r}")})
    world.fake(line="2.x")
    with start_server(world, model, model_artifacts_credential=CREDENTIAL) as drum:
        drum.wait_health(200)
        assert "[load_model] weights.ready files=2" in drum.printed
    assert world.starts()[0]["env"]["NIM_MODEL_PATH"] == str(model / "model-repo")
