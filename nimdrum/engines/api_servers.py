"""How many API servers (`--api-server-count`) the vLLM of a NIM is started with, and why. Pure.

vLLM's HTTP front is one Python process for each API server; docs/decisions/0011-api-servers.md has what its source
says of several, and what was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nimdrum.base.errors import SettingsError
from nimdrum.system import cores as machine

PARAMETER = "api_server_count"
FLAG = "--api-server-count"
MULTIMODAL = "several cannot share the cache of a multimodal model with the engine"
# Names of flags, their underscores as dashes. With those of `IMPOSSIBLE` no number of ours can work.
IMPOSSIBLE = {
    "--api-server*": "the engine's own flags say how many",
    "-asc*": "the engine's own flags say how many",
    "--headless": "the engine has no API server",
    "--grpc": "the engine has no API server",
}
ONE_BY_FLAG = {
    "--data-parallel*": "vLLM takes as many as there are data parallel ranks",
    "-dp*": "vLLM takes as many as there are data parallel ranks",
    "--enable-elastic-ep": "elastic expert parallelism allows one",
    "--config": "that file may say how many",
    "--enable-lora": "each would number LoRA adapters for itself",
    "--lora-*": "each would number LoRA adapters for itself",
    "--limit-mm-*": MULTIMODAL,
    "--mm-*": MULTIMODAL,
    "--media-io-*": MULTIMODAL,
}
ONE_BY_VARIABLE = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "vLLM loads LoRA adapters at run time into one only",
    "NIM_PEFT_SOURCE": "NIM may load LoRA adapters at run time, into one only",
    "VLLM_ENABLE_RESPONSES_API_STORE": "stored responses are kept in the memory of one",
    "VLLM_RUST_FRONTEND_PATH": "vLLM's front in Rust is one process with many threads",
    "VLLM_USE_RUST_FRONTEND": "vLLM's front in Rust is one process with many threads",
    "NIM_DYNAMO_SINGLE": "in Dynamo mode the front is Dynamo's",
    "NIM_DYNAMO_FRONTEND": "in Dynamo mode the front is Dynamo's",
    "NIM_DYNAMO_WORKER": "in Dynamo mode the front is Dynamo's",
}
OTHER_BACKENDS = ("sglang", "tensorrt", "trtllm")


@dataclass(frozen=True)
class Seen:
    """What the choice rests on."""

    line: int
    backend: str
    """What the image shows of it; empty when it shows nothing."""
    flags: Sequence[str]
    env: Mapping[str, str]
    multimodal: bool
    """Whether the weights say so themselves; NIM's own may say nothing."""
    cores: int
    gpus: int


@dataclass(frozen=True)
class ApiServers:
    """`count` is 1 where vLLM is told nothing."""

    count: int
    why: str

    @property
    def flags(self) -> str:
        return f"{FLAG} {self.count}" if self.count > 1 else ""


def choose_api_servers(wanted: int, seen: Seen) -> ApiServers:
    """`wanted` is the runtime parameter: 0 leaves the choice to the machine. Raises SettingsError."""
    impossible = _impossible(seen)
    if wanted > 1:
        if impossible:
            raise SettingsError(f"Runtime parameter {PARAMETER} is {wanted}, but {impossible}. Set it to 0.")
        return ApiServers(wanted, f"{wanted}, by the runtime parameter {PARAMETER}")
    if wanted == 1:
        return ApiServers(1, f"1, by the runtime parameter {PARAMETER}")
    if reason := impossible or _better_one(seen):
        return ApiServers(1, f"as the engine has it: {reason}")
    count = machine.api_servers(seen.cores, seen.gpus)
    return ApiServers(count, f"{count}, for {seen.cores} cores and {seen.gpus} GPU{'' if seen.gpus == 1 else 's'}")


def _impossible(seen: Seen) -> str | None:
    if seen.line < 2:
        return f"NIM {seen.line}.x takes no flags for its engine"
    profile = seen.env.get("NIM_MODEL_PROFILE", "").lower()
    for backend in OTHER_BACKENDS:
        if backend in (seen.backend, *profile.split("-")) or profile.startswith(backend):
            return f"the engine is {backend}, not vLLM"
    return _told_by_flag(seen.flags, IMPOSSIBLE)


def _better_one(seen: Seen) -> str | None:
    if by_flag := _told_by_flag(seen.flags, ONE_BY_FLAG):
        return by_flag
    for name, reason in ONE_BY_VARIABLE.items():
        if seen.env.get(name, "").strip().lower() not in ("", "0", "false", "no"):
            return f"{reason} ({name})"
    return MULTIMODAL if seen.multimodal else None


def _told_by_flag(flags: Sequence[str], reasons: Mapping[str, str]) -> str | None:
    for flag in flags:
        name = flag.partition("=")[0]
        for pattern, reason in reasons.items():
            if fnmatchcase(name.replace("_", "-"), pattern):  # vLLM takes both spellings
                return f"{reason} ({name})"
    return None
