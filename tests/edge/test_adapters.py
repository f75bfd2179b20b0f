"""LoRA adapters from a store: fetched before the engine starts, and looked at again while it runs."""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from edge_world import REPOSITORY, World
from fake_nim.run import wait_for
from s3_server import CREDENTIAL, S3Server

from nimdrum.supervisor.state import Phase, read_state
from nimdrum.weights.child import command, fetch_environment, request_json
from nimdrum.weights.folder import Content, content

pytestmark = pytest.mark.xdist_group("weights")
SEEN_SEC = 60.0
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def s3(s3: S3Server) -> S3Server:
    """The server with one adapter in its bucket."""
    put(s3, "pirate", b"one")
    return s3


def put(s3: S3Server, name: str, weights: bytes) -> None:
    s3.put(f"{name}/{WEIGHTS}", weights)
    s3.put(f"{name}/{CONFIG}", json.dumps({"r": 8}).encode())


def adapters(s3: S3Server, **changes: Any) -> dict[str, Any]:
    where = {"model_artifacts_uri": s3.uri(), "model_artifacts_credential": CREDENTIAL}
    return {**where, "model_artifacts_target": "adapters", **changes}


def seen(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.glob(f"*/{WEIGHTS}"):
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            found[path.parent.name] = path.read_bytes()
    return found


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_they_are_there_before_the_engine(world: World, s3: S3Server, line: str) -> None:
    """NIM is told where they are; its weights take their own route, here a folder, and no key of the store reaches it."""
    weights = world.code_dir / "model-repo"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    world.fake(line=line)
    world.ready_model(**adapters(s3))
    (start,) = world.starts()
    folder = world.code_dir / "adapters"
    assert start["env"]["NIM_PEFT_SOURCE"] == str(folder)
    assert start["env"]["NIM_MODEL_PATH"] == str(weights)
    assert seen(folder) == {"pirate": b"one"}
    assert content(folder) is Content.FETCHED
    assert str(CREDENTIAL["awsSecretAccessKey"]) not in json.dumps(start)


def test_the_store_is_looked_at_again(world: World, s3: S3Server) -> None:
    """As often as NIM reads the folder: a new adapter comes, a changed one is fetched anew, one that is gone goes; what
    did not change is not fetched again, and the engine is not touched."""
    world.environ["NIM_PEFT_REFRESH_INTERVAL"] = "1"
    world.fake(line="2.x")
    put(s3, "stays", b"same")
    world.ready_model(**adapters(s3))
    folder = world.code_dir / "adapters"
    put(s3, "poet", b"two")
    put(s3, "pirate", b"other")
    wait_for(lambda: seen(folder) == {"pirate": b"other", "poet": b"two", "stays": b"same"}, SEEN_SEC)
    for name in (WEIGHTS, CONFIG):
        s3.client.delete_object(Bucket="weights", Key=f"llm/pirate/{name}")
    wait_for(lambda: seen(folder) == {"poet": b"two", "stays": b"same"}, SEEN_SEC)
    wait_for(lambda: not (folder / "pirate").exists(), SEEN_SEC)
    reads = [read["key"] for read in s3.reads()]
    assert sum(f"stays/{WEIGHTS}" in key for key in reads) == 1
    assert len(world.starts()) == 1


def test_a_look_without_news_says_nothing(s3: S3Server, tmp_path: Path) -> None:
    """Once a minute it would fill the log. One with news tells how much came."""

    def look() -> str:
        request = request_json(s3.uri(), tmp_path / "adapters", CREDENTIAL, SEEN_SEC, renew=True)
        env = {**fetch_environment(os.environ), "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command(), input=request, env=env, capture_output=True, text=True, timeout=SEEN_SEC)
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert "weights.ready files=2" in look()
    assert look() == ""
    put(s3, "poet", b"two")
    assert "weights.ready files=4" in look()


def test_a_store_that_is_away_hurts_no_engine(world: World, s3: S3Server) -> None:
    """Why is in the log, the adapters that are here stay, and it is tried again."""
    world.environ["NIM_PEFT_REFRESH_INTERVAL"] = "1"
    world.fake(line="2.x")
    model = world.ready_model(**adapters(s3))
    s3.fault(status=403)
    log = model.attachment.run_dir.log
    wait_for(lambda: "error: " in log.read_text(encoding="utf-8"), SEEN_SEC)
    state = read_state(model.attachment.run_dir.state)
    assert state is not None
    assert (state.phase, state.restarts) == (Phase.RUNNING, 0)
    assert seen(world.code_dir / "adapters") == {"pirate": b"one"}
    s3.fault()
    put(s3, "poet", b"two")
    wait_for(lambda: "poet" in seen(world.code_dir / "adapters"), SEEN_SEC)
