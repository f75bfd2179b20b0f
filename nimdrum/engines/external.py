"""The plan for an engine that runs elsewhere (a sidecar, NIM Operator, Dynamo, another host): nothing to start."""

from dataclasses import replace

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import LOOPBACK, Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines import nim
from nimdrum.engines.config_file import CONFIG_FILE, EngineConfig
from nimdrum.engines.plan import EngineKind, EnginePlan

DEFAULT_PORT = 8000


def plan_external(
    plan: EnginePlan, settings: Settings, hosting: Hosting, config: EngineConfig, found: object
) -> EnginePlan:
    """How to reach it. Raises SettingsError."""
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
        port=settings.server_port or DEFAULT_PORT,
    )


KIND = EngineKind(
    name="external",
    auto_place=2,
    find=lambda settings, hosting: settings.server_host,
    plan=plan_external,
    looked_for=lambda hosting: "an external engine (runtime parameter DR_NIM_SERVER_HOST is empty: set it)",
    health_path=nim.KIND.health_path,
    bounds=nim.KIND.bounds,
    takes_flags=True,  # they are refused with its environment, in words of its own
)
