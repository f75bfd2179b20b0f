"""Several API servers: the engine is started with them, restarted without where it refuses, and watched as before."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import pytest
from edge_world import READY_SEC, World
from fake_nim.run import wait_for

from nimdrum.base.errors import EngineStartError
from nimdrum.engines.nim import KIND, plan_nim
from nimdrum.engines.plan import EngineKind
from nimdrum.scoring.score import score_frame
from nimdrum.session.model import Model

WIDE: Sequence[EngineKind] = (replace(KIND, plan=partial(plan_nim, cores=lambda: 16, gpus=lambda: 1)),)
"""NIM as it is planned on a machine with sixteen cores and one GPU."""


def passed(world: World) -> list[str | None]:
    """The flags that each start of the engine got."""
    return [start["env"].get("NIM_PASSTHROUGH_ARGS") for start in world.starts()]


def answers(model: Model, *prompts: str) -> list[str]:
    return list(score_frame(pd.DataFrame({"promptText": prompts}, dtype=object), model)["resultText"])


def test_a_wide_machine_starts_several(world: World) -> None:
    """The engine gets the flag and has as many, and rows are answered."""
    world.fake(line="2.x")
    model = world.ready_model(WIDE, engine="nim")
    assert passed(world) == ["--api-server-count 4"]
    assert answers(model, "one", "two") == ["echo: one", "echo: two"]
    log = model.attachment.run_dir.log
    wait_for(lambda: log.exists() and "Started 4 API server processes" in log.read_text(), READY_SEC)


def test_an_engine_that_refuses_the_flag_is_started_without(world: World) -> None:
    """Nobody asked for it, so nobody's start fails by it: the second start has only what the user gave."""
    world.fake(line="2.x", refuse_flag="--api-server-count")
    (world.code_dir / "engine_config.json").write_text('{"args": ["--max-num-seqs", "64"]}')
    model = world.ready_model(WIDE, engine="nim", max_watchdog_backoff_sec=1)
    assert passed(world) == ["--max-num-seqs 64 --api-server-count 4", "--max-num-seqs 64"]
    assert answers(model, "one", "two") == ["echo: one", "echo: two"]
    state = model.attachment.state()
    assert state is not None
    assert state.cause is not None
    assert "--api-server-count" in state.cause


def test_it_is_without_the_flag_in_later_starts_too(world: World) -> None:
    """An engine that dies later is not given it again: each restart would take two starts."""
    world.fake(line="2.x", refuse_flag="--api-server-count", crash_after=2, crash_once=True)
    model = world.ready_model(WIDE, engine="nim", max_watchdog_backoff_sec=1)
    prompts = [f"prompt {i}" for i in range(6)]
    assert answers(model, *prompts) == [f"echo: {prompt}" for prompt in prompts]
    assert passed(world) == ["--api-server-count 4", None, None]


@pytest.mark.parametrize(
    ("switches", "env"),
    [({"refuse_flag": "--api-server-count"}, "{}"), ({}, '{"VLLM_ALLOW_RUNTIME_LORA_UPDATING": 1}')],
    ids=["unknown", "LoRA at run time"],
)
def test_a_number_that_was_asked_for_is_not_taken_back(world: World, switches: dict[str, Any], env: str) -> None:
    """The start fails at once, and its cause names the parameter."""
    world.fake(line="2.x", **switches)
    (world.code_dir / "engine_config.json").write_text(f'{{"env": {env}}}')
    with pytest.raises(EngineStartError, match="Set the runtime parameter api_server_count to 1"):
        world.model(WIDE, engine="nim", api_server_count=2).ready(READY_SEC)
    assert passed(world) == ["--api-server-count 2"]


def test_another_failure_keeps_the_flag(world: World) -> None:
    """Only an engine that names the flag is started without: any other cause would come again."""
    world.fake(line="2.x", die_before_ready=True, last_lines=("No GPUs found.",))
    with pytest.raises(EngineStartError, match="No GPU is visible"):
        world.model(WIDE, engine="nim").ready(READY_SEC)
    assert passed(world) == ["--api-server-count 4"]


def test_a_hung_engine_behind_several_is_found(world: World) -> None:
    """Any API server's page tells of all (docs/decisions/0011-api-servers.md): its silence is the engine's."""
    world.fake(line="2.x", hang_prompts_containing="n", crash_once=True)  # "n" is in "ping" too
    model = world.ready_model(WIDE, engine="nim", stall_timeout_sec=1, max_watchdog_backoff_sec=1)
    assert answers(model, "one", "two") == ["echo: one", "echo: two"]
    assert passed(world) == ["--api-server-count 4"] * 2
