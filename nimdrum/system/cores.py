"""How many cores this container may use, and how many HTTP servers of an engine they carry."""

import os
from collections.abc import Callable
from pathlib import Path

MOST_API_SERVERS = 4
"""On one H100 four answered 1,019 one-token rows a second, of 1,103 that the engine makes without HTTP: a fifth has
nothing left to win."""
CORES_EACH = 2


def api_servers(cores: int, gpus: int) -> int:
    """How many API servers beside each other `cores` carry. Pure.

    Before them come the engine's core, which never sleeps while it has work, its worker for each GPU where there are
    several (with one it is in the core), and DRUM with NIM's proxy. Of what is left each takes two: one for its event
    loop, one for its threads that read prompts and for what is not in this sum. On a machine full of busy processes a
    step of the engine waits for a core, and that costs more than a wider front gives.
    """
    taken = 2 + (gpus if gpus > 1 else 0)
    return max(1, min(MOST_API_SERVERS, (cores - taken) // CORES_EACH))


def usable_cores(root: Path = Path("/"), allowed: Callable[[], int] = lambda: len(os.sched_getaffinity(0))) -> int:
    """Whole cores: what the scheduler allows this process, or what its cgroup's quota pays for if that is less."""
    return max(1, min([allowed(), *(int(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    """The quotas of this process's cgroups, in cores, those above them included: the smallest one holds."""
    quotas = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in ("",) if not controllers else (controllers, "cpu"):
            top = root / "sys/fs/cgroup" / mount
            # Inside a container the path may be the host's, which is not to be seen here: then the top is its own.
            own = top / path.lstrip("/")
            quotas += [_quota(folder) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return [quota for quota in quotas if quota is not None]


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()  # version 2
    if not words:
        words = [*_text(folder / "cpu.cfs_quota_us").split(), *_text(folder / "cpu.cfs_period_us").split()]
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
    return None  # "max", -1, or nothing to read


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
