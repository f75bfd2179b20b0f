"""How many GPUs the engine is told to use, and by what. Pure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from nimdrum.system.gpu import gpus_needed

# Later wins (NVIDIA's order): a profile's name, variables, flags. Short forms are vLLM's and SGLang's.
WAYS = (
    (("NIM_TENSOR_PARALLEL_SIZE",), ("--tensor-parallel-size", "-tp", "--tp-size", "--tp")),
    (("NIM_PIPELINE_PARALLEL_SIZE",), ("--pipeline-parallel-size", "-pp", "--pp-size", "--pp")),
    ((), ("--data-parallel-size", "-dp")),
)


def gpus_demanded(profile: str | None, env: Mapping[str, str], flags: Sequence[str]) -> tuple[int | None, str]:
    """How many, None where nothing says it, and who says so, for a sentence."""
    sizes, said = [], []
    for variables, names in WAYS:
        told = [(name, _size(env.get(name))) for name in variables] + _told(flags, names)
        found = [(name, size) for name, size in told if size]
        if found:
            name, size = found[-1]
            sizes.append(size)
            said.append(f"{name} {size}")
    if not sizes:
        needed = gpus_needed(profile)
        return needed, f"the profile {profile}" if needed else ""
    product = 1
    for size in sizes:
        product *= size
    return product, " with ".join(said)


def _told(flags: Sequence[str], names: Sequence[str]) -> list[tuple[str, int]]:
    found = []
    for flag, after in pairwise((*flags, "")):
        name, equals, value = flag.partition("=")
        if name.replace("_", "-") in names:
            found.append((name, _size(value if equals else after)))
    return found


def _size(text: str | None) -> int:
    return int(text) if text and text.strip().isdigit() else 0
