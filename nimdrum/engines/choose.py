"""The choice of engine: never the wrong model by accident. The external one is planned here, too."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from nimdrum.base.errors import EngineNotFoundError, SettingsError
from nimdrum.base.hosting import LOOPBACK, PLATFORM_VARIABLES, Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines import llamacpp, nim
from nimdrum.engines.config_file import CONFIG_FILE, EngineConfig, read_engine_config
from nimdrum.engines.environment import NETWORK
from nimdrum.engines.kind import EngineKind
from nimdrum.engines.plan import EnginePlan, Limits

AUTO = "auto"
EXTERNAL_PORT = 8000


def plan_external(
    plan: EnginePlan, settings: Settings, hosting: Hosting, config: EngineConfig, found: object
) -> EnginePlan:
    """How to reach an engine that runs elsewhere: a sidecar, NIM Operator, another host. Raises SettingsError."""
    if config.env or config.args:
        raise SettingsError(
            f"{CONFIG_FILE} is there, but an external engine is not started here, so that nothing in it would have an "
            "effect. Remove the file, and configure the engine where it is started."
        )
    if settings.artifacts_uri:
        raise SettingsError(
            "model_artifacts_uri is set, but the engine is external: it has its weights already. Empty the parameter."
        )
    return replace(
        plan,
        line="external engine",
        host=settings.server_host or LOOPBACK,
        port=settings.server_port or EXTERNAL_PORT,
    )


EXTERNAL = EngineKind(
    name="external",
    find=lambda settings, hosting: settings.server_host,
    plan=plan_external,
    looked_for=lambda hosting: "an external engine (runtime parameter DR_NIM_SERVER_HOST is empty: set it)",
    health_path=nim.KIND.health_path,
    bounds=nim.KIND.bounds,
    takes_flags=True,  # they are refused with its environment, in words of its own
)

KINDS = (nim.KIND, EXTERNAL, llamacpp.KIND)
"""All kinds of engine, in the order in which `auto` looks for them."""


def plan_engine(settings: Settings, hosting: Hosting, kinds: Sequence[EngineKind] = KINDS) -> EnginePlan:
    """The plan for the engine that `settings` ask for, given what is here.

    `auto` takes the first of `kinds` of which something is here. Raises EngineNotFoundError, which lists what was
    looked for, and SettingsError.
    """
    kind, found = _choose(settings.engine, settings, hosting, kinds)
    config = read_engine_config(hosting.code_dir)
    if not kind.takes_flags:
        config.refuse_args(kind.name)
    plan = kind.plan(_begin(kind, settings, hosting), settings, hosting, config, found)
    if plan.argv and plan.port and plan.port == hosting.drum_port:
        raise SettingsError(
            f"Runtime parameter DR_NIM_SERVER_PORT is {plan.port}, which belongs to DRUM itself. "
            "Choose another port, or 0 for a free one."
        )
    return replace(plan, warning=kind.auto_warning) if settings.engine == AUTO else plan


def _choose(wanted: str, settings: Settings, hosting: Hosting, kinds: Sequence[EngineKind]) -> tuple[EngineKind, Any]:
    if wanted == AUTO:
        for kind in kinds:
            if (found := kind.find(settings, hosting)) is not None:
                return kind, found
        looked_for = "; ".join(kind.looked_for(hosting) for kind in kinds)
        raise EngineNotFoundError(f"Found no engine to start. Looked for: {looked_for}.")
    for kind in kinds:
        if kind.name == wanted:
            return kind, kind.find(settings, hosting)
    allowed = ", ".join((AUTO, *(kind.name for kind in kinds)))
    raise SettingsError(f"Runtime parameter engine is {wanted!r}; allowed are {allowed}.")


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
    )


def _those(names: Iterable[str], hosting: Hosting) -> dict[str, str]:
    return {name: hosting.environ[name] for name in names if hosting.environ.get(name)}
