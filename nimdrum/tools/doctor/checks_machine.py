"""Checks of what the container or machine gives: GPU, memory, folders, limits. Pure: facts in, findings out.

Numbers are NVIDIA's (NIM documentation: prerequisites of 1.8 and 2.x, troubleshooting) unless a comment says more.
"""

import re

from nimdrum.engines.preflight import ADVISED_SHARED_MEMORY_GB, LARGER, SHARED_MEMORY, too_few_gpus
from nimdrum.system.cores import api_servers
from nimdrum.system.gpu import SLACK_MB
from nimdrum.tools.doctor.finding import Finding, ok, problem, warning
from nimdrum.tools.doctor.surroundings import Folder, Gpu, Surroundings

DRIVERS = {1: (470, 560), 2: (470, 580)}
"""For each line: the oldest driver that data-centre GPUs can have, and the one that is asked for."""
FEW_OPEN_FILES = 4096
LITTLE_DISK_GB = 5
MUCH_DISK_GB = 40
GPU_REMEDY = "choose a resource bundle with a GPU (docker run: --gpus all), or another engine"


def check_gpu(facts: Surroundings) -> Finding | None:
    if not facts.uses_gpus:
        return None
    gpus = facts.gpus.value
    if gpus is None:
        return problem("nvidia-smi is not on PATH, so no GPU is visible, and the engine needs one", GPU_REMEDY)
    if not gpus:
        return problem("nvidia-smi lists no GPU, and the engine needs one", GPU_REMEDY)
    told = ", ".join(_counted(gpus))
    if facts.plan and (too_few := too_few_gpus(facts.plan, len(gpus))):
        return problem(too_few, LARGER)
    if len({gpu.name for gpu in gpus}) > 1:
        return warning(f"{told}: NIM spreads a model over equal GPUs only", "show it one kind (CUDA_VISIBLE_DEVICES)")
    return ok(told)


def _counted(gpus: tuple[Gpu, ...]) -> list[str]:
    kinds = dict.fromkeys((gpu.name, gpu.total_mb) for gpu in gpus)
    return [
        f"{sum((gpu.name, gpu.total_mb) == kind for gpu in gpus)} x {kind[0]}, {kind[1] / 1024:.0f} GiB"
        for kind in kinds
    ]


def check_driver(facts: Surroundings) -> Finding | None:
    if not facts.uses_gpus or not facts.gpus.value:
        return None
    driver = facts.gpus.value[0].driver
    match = re.match(r"\d+", driver)
    if match is None:
        return warning(f"the driver's version {driver!r} is not a number")
    oldest, wanted = DRIVERS[2 if facts.line >= 2 else 1]
    if int(match[0]) >= wanted:
        return ok(driver)
    asked = f"NVIDIA asks for {wanted} or newer for NIM {'2.x' if facts.line >= 2 else '1.8 and later'}"
    if int(match[0]) < oldest:
        return problem(f"{driver} is too old: {asked}", "a node with a newer driver")
    return warning(
        f"{driver}: {asked}; older ones work on data-centre GPUs only", "if CUDA does not start, a newer driver"
    )


def check_gpu_use(facts: Surroundings) -> Finding | None:
    """Other users of the GPU, and modes that keep several processes from sharing one."""
    if not facts.uses_gpus or not facts.gpus.value:
        return None
    gpus = facts.gpus.value
    if any("exclusive" in gpu.compute_mode.lower() for gpu in gpus):
        return warning(
            "a GPU is in an exclusive compute mode, which NIM's processes cannot share", "nvidia-smi -c DEFAULT"
        )
    busy = [f"GPU {i} {gpu.used_mb / 1024:.1f} GiB" for i, gpu in enumerate(gpus) if gpu.used_mb > SLACK_MB]
    if busy and facts.runs:
        return ok(f"in use, and an engine of this user runs: {', '.join(busy)}")
    if busy:
        return warning(f"in use by others: {', '.join(busy)}; NIM 1.x refuses such a GPU", "nvidia-smi shows who")
    return ok("GPU memory is free")


def check_shared_memory(facts: Surroundings) -> Finding | None:
    if not facts.uses_gpus:
        return None
    gigabytes = facts.shm_bytes.value / 1e9
    gpus = len(facts.gpus.seen or ())
    if gpus > 1 and gigabytes < ADVISED_SHARED_MEMORY_GB:
        return warning(
            f"{SHARED_MEMORY} has {gigabytes:.1f} GB; {gpus} GPUs without NVLink want {ADVISED_SHARED_MEMORY_GB} GB",
            f"docker run --shm-size={ADVISED_SHARED_MEMORY_GB}g; if the engine hangs while loading, this is why",
        )
    return ok(f"{SHARED_MEMORY} has {gigabytes:.1f} GB")


def check_api_servers(facts: Surroundings) -> Finding | None:
    plan, settings = facts.plan, facts.settings
    if plan is None or settings is None or not plan.api_servers:
        return None
    cores = facts.cores.value
    carried = api_servers(cores, len(facts.gpus.seen or ()))
    if settings.api_server_count > carried:
        return warning(
            f"{plan.api_servers}; {cores} cores carry {carried}, and more take time from the engine",
            "api_server_count 0, which lets the cores decide, or a larger resource bundle",
        )
    return ok(plan.api_servers)


def check_cache(facts: Surroundings) -> Finding | None:
    if facts.engine != "nim" or facts.local_model:
        return None
    folder = facts.cache.value
    if folder.not_writable:
        return problem(
            f"{_rights(facts, folder)}. NIM downloads and links its model there",
            "mount it writable for uid 1000 or group 0, or set NIM_CACHE_PATH to a folder that is",
        )
    return ok(f"{folder.path} is writable and {'filled' if folder.filled else 'empty'}")


def check_disk(facts: Surroundings) -> Finding | None:
    if facts.engine != "nim" or facts.local_model:
        return None
    folder = facts.cache.value
    free = f"{folder.free_bytes / 1e9:.0f} GB free under {folder.path}"
    if folder.filled or folder.free_bytes >= MUCH_DISK_GB * 1e9:
        return ok(free)
    size = "16-bit weights take about 2 GB for each billion of parameters"
    if folder.free_bytes < LITTLE_DISK_GB * 1e9:
        return problem(f"{free}, and the model is not there yet; {size}", "a larger volume at NIM_CACHE_PATH")
    return warning(f"{free}: enough for a small model only; {size}", "a larger volume at NIM_CACHE_PATH")


def check_fetch(facts: Surroundings) -> Finding | None:
    if facts.fetch_into is None:
        return None
    folder = facts.fetch_into.value
    if folder.filled:  # whether by this URI is seen at the start; a volume may then be read-only
        return ok(f"{folder.path} holds fetched weights")
    if folder.not_writable:
        return problem(
            f"{_rights(facts, folder)}. model_artifacts_uri is fetched there",
            "mount a volume there, writable for uid 1000 or group 0",
        )
    return ok(f"model_artifacts_uri is fetched into {folder.path}, {folder.free_bytes / 1e9:.0f} GB free")


def check_home(facts: Surroundings) -> Finding | None:
    folder = facts.home.value
    if folder is None:
        return warning("HOME is not set; programs fall back to / or fail", "HOME=/tmp, or any folder that is writable")
    if folder.not_writable:
        return warning(f"HOME: {_rights(facts, folder)}", "set HOME to a folder that is; caches of Python land there")
    return ok(f"HOME {folder.path} is writable")


def check_temp(facts: Surroundings) -> Finding | None:
    folder = facts.temp.value
    if folder.not_writable:
        return problem(f"the temporary folder {_rights(facts, folder)}", "mount /tmp writable, or set TMPDIR")
    if folder.noexec and facts.engine == "nim":
        return warning(f"{folder.path} is mounted noexec; compilers in the engine run what they write", "set TMPDIR")
    return ok(f"{folder.path} is writable")


def check_user(facts: Surroundings) -> Finding | None:
    if facts.has_user_name.value or facts.engine != "nim":
        return None
    # From public reports: torch asks for the user's name.
    return warning(
        f"uid {facts.uid} has no name in /etc/passwd, which parts of the engine ask for", "set USER and LOGNAME"
    )


def check_nim_folders(facts: Surroundings) -> Finding | None:
    """Public reports of NIM 2.x with a read-only root or a foreign user id name these folders."""
    folders = facts.nim_folders.value
    if facts.engine != "nim" or facts.line < 2:
        return None
    if folders:
        return warning(
            f"uid {facts.uid}, gid {facts.gid} cannot write to {', '.join(folders)}; NIM 2.x may need to",
            "mount them writable (an empty volume each), or run with group 0",
        )
    return ok("NIM's own folders are writable")


def check_open_files(facts: Surroundings) -> Finding | None:
    limit = facts.open_files.value
    if limit < FEW_OPEN_FILES:
        return warning(
            f"at most {limit} open files; large models and many clients need more", "raise nofile (ulimit -n)"
        )
    return None


def _rights(facts: Surroundings, folder: Folder) -> str:
    return f"{folder.path} cannot be written by uid {facts.uid}, gid {facts.gid}: {folder.not_writable}"
