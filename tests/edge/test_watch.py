"""Watching a running engine: the dead and the hung are restarted, the busy are left alone."""

import json
import os
import stat
from pathlib import Path

import pandas as pd
import pytest
from edge_world import KEY, READY_SEC, World
from fake_nim.run import wait_for

from nimdrum.base.errors import EngineStartError
from nimdrum.base.secret import MASK
from nimdrum.scoring.score import score_frame
from nimdrum.session.model import Model
from nimdrum.supervisor.state import Phase
from nimdrum.system.gpu import Gpus


def frame_of(prompts: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"promptText": prompts}, dtype=object)


def test_a_hung_engine_is_found_and_its_rows_are_sent_again(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """An engine that accepts requests and never makes a token is restarted; no row is lost."""
    world.fake(
        line="2.x", hang_prompts_containing="p", crash_once=True
    )  # "p" is in "ping" too: one token hangs as well
    model = world.ready_model(stall_timeout_sec=1, max_watchdog_backoff_sec=1)
    out = score_frame(frame_of(["prompt 1", "prompt 2"]), model)
    assert out["resultText"].tolist() == ["echo: prompt 1", "echo: prompt 2"]
    state = model.attachment.state()
    assert state is not None
    assert state.restarts == 1
    wait_for(lambda: "asked for one token" in capfd.readouterr().err, READY_SEC)


def test_an_engine_that_prints_its_environment_tells_no_secret(world: World) -> None:
    """Whatever it was handed is masked by value: in engine.log, in the state that `status --json` prints, and (which
    the world looks for at the end of each test) in all that is printed. Of its container it gets no secret but the
    proxy's; its user may hand over more."""
    world.environ["HTTPS_PROXY"] = f"http://user:{KEY}@proxy.example:3128"
    handed_over = {
        "NIM_GIT_PAT": KEY,
        "NIM_REGISTRY_AUTH": KEY,
        "NIM_STORE": f"AccountName=me;AccountKey={KEY};EndpointSuffix=x",
        "NIM_LINK": f"https://bucket.example/model?X-Amz-Signature={KEY}",
    }
    config = world.folder / "record" / "engine_config.json"  # where the test may write a key
    config.parent.mkdir()
    config.write_text(json.dumps({"env": handed_over}))
    (world.code_dir / "engine_config.json").symlink_to(config)
    script = world.fake()
    script.write_text(script.read_text().replace("exec ", "env\nexec "))
    model = world.ready_model()
    log = model.attachment.run_dir.log
    printed = ("NIM_STORE=AccountName=me;", "HTTPS_PROXY=", "Application startup complete")  # the last comes after all
    wait_for(lambda: log.exists() and all(words in log.read_text() for words in printed), READY_SEC)
    (world.code_dir / "engine_config.json").unlink()
    shown = log.read_text() + model.attachment.run_dir.state.read_text()
    assert KEY not in shown
    assert f"HTTPS_PROXY=http://{MASK}@proxy.example:3128" in shown


def test_a_dead_engine_in_a_living_process_is_restarted(world: World) -> None:
    """500 for every request while the process stays (NIM 1.x): found by its own health, and the rows survive."""
    world.fake(engine_dead_after=5, crash_once=True, seconds_per_token=0.005)
    asked = [f"prompt {i}" for i in range(30)]
    out = score_frame(frame_of(asked), world.ready_model(max_concurrency=4, max_watchdog_backoff_sec=1))
    assert out["resultText"].tolist() == [f"echo: {prompt}" for prompt in asked]
    assert len(world.starts()) == 2


@pytest.mark.parametrize("metrics", [True, False], ids=["with metrics", "without metrics"])
def test_a_busy_engine_with_a_slow_health_route_is_left_alone(world: World, metrics: bool) -> None:
    """Full of work, and its health route answers long after stall_timeout_sec: it is not restarted."""
    world.fake(max_num_seqs=2, seconds_per_token=0.05, slow_health_sec=4, metrics=metrics)
    model = world.ready_model(stall_timeout_sec=2 if metrics else 30, max_concurrency=8)
    out = score_frame(frame_of([f"prompt {i} with a few more words" for i in range(24)]), model)
    assert set(out["row_error"]) == {""}
    state = model.attachment.state()
    assert state is not None
    assert (len(world.starts()), state.restarts) == (1, 0)


def nvidia_smi(world: World, *used_mb: int) -> Path:
    """Put an nvidia-smi on the world's PATH that reports these megabytes in use, one line for each GPU."""
    folder = world.folder / "bin"
    folder.mkdir()
    figures = world.folder / "used_mb"
    figures.write_text("".join(f"{figure}\n" for figure in used_mb))
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nexec cat '{figures}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    world.environ["PATH"] = f"{folder}:{world.environ['PATH']}"
    return figures


def test_too_few_gpus_for_the_profile_are_told_before_the_start(world: World) -> None:
    """A profile whose name asks for four GPUs does not start on two: the sentence comes in a second, not in minutes."""
    nvidia_smi(world, 10, 10)
    world.fake()
    with pytest.raises(EngineStartError, match=r"is to use 4 GPUs .the profile tensorrt_llm.*, but 2 are visible"):
        world.model(NIM_MODEL_PROFILE="tensorrt_llm-h100-fp8-tp4-throughput").ready(READY_SEC)
    assert world.starts() == []


def crash_with_gpu_in_use(model: Model, figures: Path) -> None:
    """Kill the engine, whose memory on the GPU stays in use; returns when its supervisor waits to start it again."""
    state = model.attachment.state()
    assert state is not None
    assert state.engine_pid is not None
    figures.write_text("70000\n")
    os.kill(state.engine_pid, 9)
    wait_for(lambda: (now := model.attachment.state()) is not None and now.phase is Phase.BACKOFF, READY_SEC)


def test_a_restart_waits_until_the_gpu_is_free_again(world: World) -> None:
    """After a crash the new engine starts only when the memory in use is back where it was before the first start."""
    figures = nvidia_smi(world, 100)
    world.fake()
    model = world.ready_model(max_watchdog_backoff_sec=1)
    crash_with_gpu_in_use(model, figures)
    assert len(world.starts()) == 1
    figures.write_text("300\n")
    model.ready(READY_SEC)
    assert len(world.starts()) == 2


def test_nobody_waits_for_a_gpu_that_nobody_needs_any_more(world: World) -> None:
    """The last user goes while the GPU is still in use after a crash: the supervisor ends then, and not a minute later."""
    figures = nvidia_smi(world, 100)
    world.fake()
    model = world.ready_model()
    crash_with_gpu_in_use(model, figures)
    model.attachment.release()
    world.wait_until_empty()
    assert len(world.starts()) == 1


def test_gpu_memory_that_stays_in_use_does_not_block_for_ever(world: World) -> None:
    """The wait has a deadline, and without nvidia-smi there is none at all."""
    nvidia_smi(world, 70000)
    assert Gpus(world.environ).wait_released([100], timeout_sec=0.1) is False
    assert Gpus({"PATH": ""}).wait_released([100]) is None
    assert Gpus({"PATH": ""}).used_mb() is None


def test_a_cache_that_cannot_be_written_is_told_before_the_start(world: World) -> None:
    """The write test names the folder, the user and the remedy."""
    (world.folder / "cache").write_text("a file where a folder should be")
    world.fake()
    with pytest.raises(EngineStartError, match="cannot be written by uid"):
        world.model().ready(READY_SEC)
    assert world.starts() == []


def test_a_key_beside_local_weights_stays_here(world: World) -> None:
    """NIM would go online because of it."""
    world.fake()
    (world.code_dir / "model-repo").mkdir()
    (world.code_dir / "model-repo" / "config.json").write_text("{}")
    world.ready_model(NGC_API_KEY={"credentialType": "api_token", "apiToken": KEY})
    assert "NGC_API_KEY" not in world.starts()[0]["env"]
