"""What this DataRobot holds, and how it moves on while it is polled."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fake_datarobot.request import Wrong

Json = dict[str, Any]
NOW = "2026-01-01T00:00:00.000000Z"


@dataclass
class State:
    """Everything by its id. `polls` is how many looks at a thing that is being made it takes until it is made."""

    polls: int = 2
    failing_builds: int = 0
    """How many builds of an environment fail before one succeeds."""
    environments: dict[str, Json] = field(default_factory=dict)
    environment_versions: dict[str, Json] = field(default_factory=dict)
    credentials: dict[str, Json] = field(default_factory=dict)
    models: dict[str, Json] = field(default_factory=dict)
    model_versions: dict[str, Json] = field(default_factory=dict)
    registered_models: dict[str, Json] = field(default_factory=dict)
    registered_versions: dict[str, Json] = field(default_factory=dict)
    prediction_environments: dict[str, Json] = field(default_factory=dict)
    deployments: dict[str, Json] = field(default_factory=dict)
    jobs: dict[str, Json] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    """What the credentials hold; never shown."""
    bundles: list[Json] = field(
        default_factory=lambda: [
            bundle("cpu.small", "CPU - S", 0, 4),
            bundle("gpu.4xlarge", "GPU - 4XL", 4, 256),
            bundle("gpu.large", "GPU - L", 1, 64),
            bundle("gpu.medium", "GPU - M", 1, 32),
        ]
    )
    _left: dict[str, int] = field(default_factory=dict)
    _ids: dict[str, Iterator[int]] = field(default_factory=dict)

    def new_id(self, kind: str) -> str:
        number = next(self._ids.setdefault(kind, itertools.count(1)))
        return f"{kind.encode().hex()[:12]:0<12}{number:012x}"

    def poll(self, id: str) -> bool:
        """True when the thing has been looked at often enough to be made."""
        left = self._left.setdefault(id, self.polls)
        self._left[id] = left - 1
        return left <= 0

    def restart_polls(self, id: str) -> None:
        self._left[id] = self.polls

    def end(self) -> Json:
        """What counts in the end: all things, without the traces of polls."""
        kinds = (
            "environments environment_versions credentials models model_versions registered_models registered_versions"
        )
        kinds += " prediction_environments deployments secrets"
        return {kind: getattr(self, kind) for kind in kinds.split()}

    def counts(self) -> dict[str, int]:
        return {kind: len(things) for kind, things in self.end().items()}


def bundle(id: str, name: str, gpus: float, gpu_gb: int) -> Json:
    return {
        "id": id,
        "name": name,
        "description": name,
        "cpuCount": 4.0,
        "memoryBytes": 16 << 30,
        "gpuMaker": "nvidia" if gpus else None,
        "gpuCount": gpus or None,
        "gpuMemoryBytes": gpu_gb << 30 if gpus else 0,
        "useCases": ["customModel"],
        "isDefault": not gpus,
        "isDeleted": False,
        "hasGpu": bool(gpus),
    }


def one(things: dict[str, Json], id: str) -> Json:
    if id not in things:
        raise Wrong(f"there is no {id}", 404)
    return things[id]
