"""What `nvidia-smi` says, where it exists: how many GPUs there are, and how much of their memory is in use."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

TIMEOUT_SEC = 20.0
RELEASE_TIMEOUT_SEC = 60.0
POLL_SEC = 0.5
SLACK_MB = 512
"""More than before the first start by this much still counts as released: other processes breathe."""


class Gpus:
    """The GPUs that an engine with the environment `env` would see. Every answer is None without nvidia-smi."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._program = shutil.which("nvidia-smi", path=env.get("PATH"))
        self._env = dict(env)

    def used_mb(self) -> list[int] | None:
        """Megabytes in use on each GPU."""
        if self._program is None:
            return None
        command = [self._program, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(
                command, env=self._env, capture_output=True, text=True, timeout=TIMEOUT_SEC, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return [int(figure) for figure in re.findall(r"^\s*(\d+)", done.stdout, re.MULTILINE)]

    def wait_released(
        self,
        baseline_mb: list[int] | None,
        timeout_sec: float = RELEASE_TIMEOUT_SEC,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool | None:
        """Until the memory in use is back at `baseline_mb`; False when it is not in time, or `stopped` says so before.

        None when nobody can tell.
        """
        deadline = time.monotonic() + timeout_sec
        while baseline_mb is not None and (used := self.used_mb()) is not None:
            if all(now <= then + SLACK_MB for now, then in zip(used, baseline_mb, strict=False)):
                return True
            if time.monotonic() >= deadline or stopped():
                return False
            time.sleep(POLL_SEC)
        return None


def gpus_needed(profile: str | None) -> int | None:
    """GPUs that a profile's name asks for (tp4-pp2 are eight); None when the name does not tell, as an id does not."""
    found = re.search(r"(?:^|-)tp(\d+)(?:-pp(\d+))?(?:-|$)", profile or "")
    return int(found[1]) * int(found[2] or 1) if found else None


def gpu_devices(devices: Path = Path("/dev")) -> int:
    """How many GPUs the container has, by their device files; where a program may see fewer, it is the most."""
    return sum(1 for device in devices.glob("nvidia*") if device.name.removeprefix("nvidia").isdigit())
