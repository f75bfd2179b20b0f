"""The choice of engine: never the wrong model by accident."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from nimdrum.base.errors import EngineNotFoundError, SettingsError
from nimdrum.base.hosting import NETWORK, PLATFORM_VARIABLES, Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.config_file import EngineConfig, read_engine_config
from nimdrum.engines.plan import EngineKind, EnginePlan, Limits

AUTO = "auto"


def find_kinds() -> tuple[EngineKind, ...]:
    """The `KIND` of each module of this room that has one, in the order in which `auto` looks for them."""
    modules = [import_module(f"{__package__}.{name}") for _, name, _ in iter_modules([str(Path(__file__).parent)])]
    return tuple(sorted((m.KIND for m in modules if hasattr(m, "KIND")), key=lambda kind: kind.auto_place))


def plan_engine(
    settings: Settings, hosting: Hosting, kinds: Sequence[EngineKind] | None = None, *, pending: bool = False
) -> EnginePlan:
    """The plan for the engine that `settings` ask for, given what is here (see `EnginePlan.pending`).

    `auto` takes the first of `kinds` (those of `find_kinds`) of which something is here. Raises EngineNotFoundError,
    which lists what was looked for, and SettingsError.
    """
    kind, found = _choose(settings.engine, settings, hosting, find_kinds() if kinds is None else kinds)
    config = EngineConfig() if pending else read_engine_config(hosting.code_dir)
    if not kind.takes_flags:
        config.refuse_args(kind.name)
    plan = kind.plan(replace(_begin(kind, settings, hosting), pending=pending), settings, hosting, config, found)
    if plan.argv and plan.port and plan.port == hosting.drum_port:
        raise SettingsError(
            f"Runtime parameter DR_NIM_SERVER_PORT is {plan.port}, which belongs to DRUM itself. "
            "Choose another port, or 0 for a free one."
        )
    warnings = (kind.auto_warning if settings.engine == AUTO else "", plan.warning)
    return replace(plan, warning=" ".join(filter(None, warnings)))


def _choose(wanted: str, settings: Settings, hosting: Hosting, kinds: Sequence[EngineKind]) -> tuple[EngineKind, Any]:
    if wanted == AUTO:
        for kind in kinds:
            if (found := kind.find(settings, hosting)) is not None:
                return kind, found
        looked_for = "; ".join(kind.looked_for(hosting) for kind in kinds)
        raise EngineNotFoundError(f"Found no engine to start. Looked for: {looked_for}.")
    kind = kind_named(wanted, kinds)
    return kind, kind.find(settings, hosting)


def kind_named(name: str, kinds: Sequence[EngineKind]) -> EngineKind:
    """Raises SettingsError, which lists those that there are."""
    if found := next((kind for kind in kinds if kind.name == name), None):
        return found
    allowed = ", ".join((AUTO, *(kind.name for kind in kinds)))
    raise SettingsError(f"Runtime parameter engine is {name!r}; allowed are {allowed}.")


def _begin(kind: EngineKind, settings: Settings, hosting: Hosting) -> EnginePlan:
    """What a plan has of its kind and straight from the settings."""
    return EnginePlan(
        engine=kind.name,
        cwd=str(hosting.code_dir),
        port=settings.server_port,
        health_path=settings.health_route or kind.health_path,
        model=settings.served_model_name,
        limits=Limits(settings.max_restarts, settings.max_backoff_sec, settings.startup_timeout_sec),
        bounds=kind.bounds,
        metrics=kind.metrics,
        uses_gpus=kind.uses_gpus,
        stop_timeout_sec=settings.stop_timeout_sec,
        stall_timeout_sec=settings.stall_timeout_sec,
        platform=_those(PLATFORM_VARIABLES, hosting),
        network=_those(NETWORK, hosting),
        verify_ssl=settings.verify_ssl,
        drum_port=hosting.drum_port,
        json_logs=hosting.json_logs,
    )


def _those(names: Iterable[str], hosting: Hosting) -> dict[str, str]:
    return {name: hosting.environ[name] for name in names if hosting.environ.get(name)}
