"""How many GPUs an engine is told to use, and what is said where there are fewer."""

from pathlib import Path

import pytest
from test_nim import NIM_2, config, plan

from nimdrum.engines.demand import gpus_demanded
from nimdrum.engines.preflight import Findings, look_before_start

PROFILE = "vllm-fp8-tp4-pp2"
SHARED_MEMORY = 32_000_000_000


@pytest.mark.parametrize(
    ("profile", "env", "flags", "gpus", "by"),
    [
        pytest.param(None, {}, [], None, "", id="nothing says it"),
        pytest.param("a" * 64, {}, [], None, "", id="an id says nothing"),
        pytest.param(PROFILE, {}, [], 8, f"the profile {PROFILE}", id="a profile's name"),
        pytest.param(
            PROFILE,
            {"NIM_TENSOR_PARALLEL_SIZE": "2"},
            [],
            2,
            "NIM_TENSOR_PARALLEL_SIZE 2",
            id="a variable over the profile",
        ),
        pytest.param(
            None,
            {"NIM_TENSOR_PARALLEL_SIZE": "2", "NIM_PIPELINE_PARALLEL_SIZE": "3"},
            [],
            6,
            "NIM_TENSOR_PARALLEL_SIZE 2 with NIM_PIPELINE_PARALLEL_SIZE 3",
            id="both",
        ),
        pytest.param(
            None,
            {"NIM_TENSOR_PARALLEL_SIZE": "2"},
            ["--seed", "1", "--tensor_parallel_size=4"],
            4,
            "--tensor_parallel_size 4",
            id="a flag over the variable",
        ),
        pytest.param(None, {}, ["-tp", "2", "-dp", "4"], 8, "-tp 2 with -dp 4", id="vLLM's short forms"),
        pytest.param(None, {}, ["--tp-size", "2"], 2, "--tp-size 2", id="SGLang's"),
        pytest.param(None, {"NIM_TENSOR_PARALLEL_SIZE": "many"}, ["-tp"], None, "", id="no numbers"),
    ],
)
def test_what_asks_for_gpus(
    profile: str | None, env: dict[str, str], flags: list[str], gpus: int | None, by: str
) -> None:
    """The order is NVIDIA's: flags, then variables, then the profile."""
    assert gpus_demanded(profile, env, flags) == (gpus, by)


def test_more_than_there_are_stops_the_start(tmp_path: Path) -> None:
    """In one sentence with who asks, how many there are, and what to do; as many as there are is fine."""
    made = plan(config(tmp_path, NIM_TENSOR_PARALLEL_SIZE=4, NIM_CACHE_PATH=str(tmp_path)), NIM_2)
    assert look_before_start(made, 1, SHARED_MEMORY) == Findings(
        problem="NIM 2.x is to use 4 GPUs (NIM_TENSOR_PARALLEL_SIZE 4), but 1 is visible here. Choose a larger resource "
        "bundle or a smaller setting; over several machines, use an external engine."
    )
    assert look_before_start(made, 4, SHARED_MEMORY) == Findings()
    assert look_before_start(made, None, SHARED_MEMORY) == Findings()


def test_the_file_names_the_profile_too(tmp_path: Path) -> None:
    """It wins over the parameter."""
    made = plan(config(tmp_path, NIM_MODEL_PROFILE=PROFILE), NIM_2, NIM_MODEL_PROFILE="vllm-fp8-tp1")
    assert (made.gpus_needed, made.gpus_needed_by) == (8, f"the profile {PROFILE}")
