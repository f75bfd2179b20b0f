"""What the project knows of one kind of engine: one record, and nothing about it anywhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.config_file import EngineConfig
from nimdrum.engines.plan import Bounds, EnginePlan
from nimdrum.engines.work import KNOWN, Metrics


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine. `choose.find_kinds` finds the `KIND` of every module of this room."""

    name: str
    """The word for the runtime parameter `engine`, small letters."""
    auto_place: int
    """Where `auto` looks for it: in the order of these numbers."""
    find: Callable[[Settings, Hosting], Any]
    """What is here of it, or None."""
    plan: Callable[[EnginePlan, Settings, Hosting, EngineConfig, Any], EnginePlan]
    """The first argument completed: what to start and how to reach it, given what `find` found (None where the user
    named an engine of which nothing is here). Raises EngineNotFoundError and SettingsError."""
    looked_for: Callable[[Hosting], str]
    """What `find` looks for, and what a user does to have it, for the error when nothing at all is found."""
    health_path: str
    """Answers 200 when the engine is ready, unless DR_NIM_HEALTH_ROUTE says another."""
    bounds: Bounds
    metrics: Metrics = KNOWN
    takes_flags: bool = False
    """Whether `args` of engine_config.json reach it."""
    uses_gpus: bool = False
    """Whether GPUs, shared memory and a cache are looked at before its start."""
    auto_warning: str = ""
    """What is logged when `auto` takes it."""
