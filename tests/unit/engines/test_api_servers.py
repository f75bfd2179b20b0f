"""How many API servers vLLM is given: by the machine, by the user, and one where several would break something."""

import re
from dataclasses import replace
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.engines.api_servers import ApiServers, Seen, choose_api_servers

WIDE = Seen(line=2, backend="", flags=(), env={}, multimodal=False, cores=16, gpus=1)


def seen(**changes: Any) -> Seen:
    return replace(WIDE, **changes)


def test_the_machine_decides() -> None:
    """Where nothing speaks against several, the cores do; one is told to vLLM by telling it nothing."""
    assert choose_api_servers(0, WIDE) == ApiServers(4, "4, for 16 cores and 1 GPU")
    assert choose_api_servers(0, seen(cores=4)) == ApiServers(1, "1, for 4 cores and 1 GPU")
    assert choose_api_servers(0, seen(cores=4)).flags == ""
    assert choose_api_servers(0, WIDE).flags == "--api-server-count 4"


IMPOSSIBLE = [
    pytest.param({"line": 1}, "NIM 1.x takes no flags", id="1.x"),
    pytest.param({"backend": "sglang"}, "sglang, not vLLM", id="SGLang image"),
    pytest.param({"env": {"NIM_MODEL_PROFILE": "sglang-h100-bf16-tp2"}}, "sglang", id="SGLang profile"),
    pytest.param({"env": {"NIM_MODEL_PROFILE": "tensorrt_llm-h100-fp8-tp1"}}, "tensorrt", id="TensorRT-LLM profile"),
    pytest.param({"flags": ("--api-server-count", "2")}, r"own flags.*--api-server-count", id="own flag"),
    pytest.param({"flags": ("--api_server_count=2",)}, "own flags", id="own flag, other spelling"),
    pytest.param({"flags": ("-asc", "2")}, "own flags", id="own flag, short"),
    pytest.param({"flags": ("--headless",)}, "no API server", id="headless"),
    pytest.param({"flags": ("--grpc",)}, "no API server", id="gRPC"),
]
BETTER_ONE = [
    pytest.param({"flags": ("--data-parallel-size", "2")}, "data parallel", id="data parallel"),
    pytest.param({"flags": ("--data_parallel_size=2",)}, "data parallel", id="data parallel, other spelling"),
    pytest.param({"flags": ("-dp", "2")}, "data parallel", id="data parallel, short"),
    pytest.param({"flags": ("-dpn", "2")}, "data parallel", id="data parallel rank"),
    pytest.param({"flags": ("--config", "/x.yaml")}, "that file", id="a file of flags"),
    pytest.param({"flags": ("--enable-elastic-ep",)}, "elastic", id="elastic EP"),
    pytest.param({"flags": ("--enable-lora",)}, "LoRA", id="LoRA"),
    pytest.param({"flags": ("--lora-modules", "a=/a")}, "LoRA", id="LoRA modules"),
    pytest.param({"flags": ("--mm-processor-cache-gb", "0")}, "multimodal", id="multimodal cache"),
    pytest.param({"flags": ("--limit-mm-per-prompt", "{}")}, "multimodal", id="multimodal limits"),
    pytest.param({"multimodal": True}, "multimodal", id="multimodal weights"),
    pytest.param({"env": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}}, "LoRA.*RUNTIME_LORA", id="LoRA at run time"),
    pytest.param({"env": {"NIM_PEFT_SOURCE": "/loras"}}, "LoRA.*NIM_PEFT_SOURCE", id="LoRA of NIM"),
    pytest.param({"env": {"VLLM_ENABLE_RESPONSES_API_STORE": "1"}}, "stored responses", id="stored responses"),
    pytest.param({"env": {"VLLM_RUST_FRONTEND_PATH": "/vllm-rs"}}, "Rust", id="Rust front"),
    pytest.param({"env": {"NIM_DYNAMO_SINGLE": "1"}}, "Dynamo", id="Dynamo"),
]


@pytest.mark.parametrize(("changes", "reason"), [*IMPOSSIBLE, *BETTER_ONE])
def test_the_engine_is_left_alone_where_several_break_something(changes: dict[str, Any], reason: str) -> None:
    """Each with its reason; a user who asks for one gets it everywhere."""
    chosen = choose_api_servers(0, seen(**changes))
    assert chosen.flags == ""
    assert re.search(reason, chosen.why)
    assert choose_api_servers(1, seen(**changes)) == ApiServers(1, "1, by the runtime parameter api_server_count")


@pytest.mark.parametrize(("changes", "reason"), IMPOSSIBLE)
def test_several_that_cannot_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    """Before the start, with the parameter's name and value."""
    with pytest.raises(SettingsError, match=f"api_server_count is 3, but .*{reason}.*Set it to 0"):
        choose_api_servers(3, seen(**changes))


@pytest.mark.parametrize(("changes", "reason"), BETTER_ONE)
def test_a_user_may_know_better(changes: dict[str, Any], reason: str) -> None:
    """What only costs something, or what vLLM itself judges, is the user's choice, whatever the cores are."""
    assert choose_api_servers(8, seen(cores=2, **changes)).flags == "--api-server-count 8"


@pytest.mark.parametrize(
    "changes",
    [
        {"env": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0"}},
        {"env": {"NIM_PEFT_SOURCE": ""}},
        {"env": {"NIM_MODEL_PROFILE": "vllm-h100-bf16-tp1"}},
        {"env": {"NIM_MODEL_PROFILE": "a" * 64}},
        {"flags": ("--config-format", "hf", "--max-num-seqs", "64", "--dtype", "auto")},
        {"flags": ("--served-model-name", "sglang")},
    ],
    ids=str,
)
def test_what_speaks_against_nothing(changes: dict[str, Any]) -> None:
    """Variables that are switched off, and flags that only look alike."""
    assert choose_api_servers(0, seen(**changes)).count == 4
