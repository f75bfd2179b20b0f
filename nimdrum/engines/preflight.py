"""What would make a start fail after minutes, looked at before it: the cache, the GPUs, shared memory."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nimdrum.engines.plan import EnginePlan

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's, not a temporary file of ours
LARGER = "choose a larger resource bundle or a smaller setting; over several machines, use an external engine"
ADVISED_SHARED_MEMORY_GB = 16  # NVIDIA's advice for several GPUs without NVLink


@dataclass(frozen=True)
class Findings:
    """`problem` stops the start; `warning` is only said."""

    problem: str | None = None
    warning: str | None = None


def look_before_start(plan: EnginePlan, gpus: int | None, shared_memory_bytes: int) -> Findings:
    """What stands in the way of an engine. `gpus` is the number seen (None: nobody can tell)."""
    cache = plan.cache
    if cache and (reason := not_writable(Path(cache))):
        return Findings(
            problem=f"The model cache {cache} cannot be written by uid {os.getuid()}, gid {os.getgid()}: {reason}. "
            "Mount it writable for group 0, or set NIM_CACHE_PATH to a folder that is."
        )
    if gpus is not None and (problem := too_few_gpus(plan, gpus)):
        return Findings(problem=f"{problem}. {LARGER[:1].upper()}{LARGER[1:]}.")
    gigabytes = shared_memory_bytes / 1e9
    if gpus is not None and gpus > 1 and gigabytes < ADVISED_SHARED_MEMORY_GB:
        return Findings(
            warning=f"{SHARED_MEMORY} has {gigabytes:.1f} GB; with several GPUs without NVLink "
            f"{ADVISED_SHARED_MEMORY_GB} GB are advised (docker run --shm-size)."
        )
    return Findings()


def too_few_gpus(plan: EnginePlan, gpus: int) -> str:
    """What the engine is told to use, where that is more than the GPUs here; else empty."""
    if plan.gpus_needed is None or gpus >= plan.gpus_needed:
        return ""
    visible = f"{gpus} {'is' if gpus == 1 else 'are'} visible here"
    return f"{plan.line} is to use {plan.gpus_needed} GPUs ({plan.gpus_needed_by}), but {visible}"


def not_writable(folder: Path) -> str | None:
    """Why no file can be made in `folder` (made where it is missing), or None. Leaves nothing in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def shared_memory_bytes() -> int:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(SHARED_MEMORY).total
    return 0
