"""The plan for an engine that runs elsewhere (a sidecar, NIM Operator, Dynamo, another host): nothing to start."""

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import LOOPBACK, Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.common import common
from nimdrum.engines.config_file import CONFIG_FILE, read_engine_config
from nimdrum.engines.nim import HEALTH_PATH
from nimdrum.engines.plan import EnginePlan

DEFAULT_PORT = 8000


def external_plan(settings: Settings, hosting: Hosting) -> EnginePlan:
    """How to reach it. Raises SettingsError."""
    config = read_engine_config(hosting.code_dir)
    if config.env or config.args:
        raise SettingsError(
            f"{CONFIG_FILE} is there, but an external engine is not started here, so that nothing in it would have an "
            "effect. Remove the file, and configure the engine where it is started."
        )
    if settings.artifacts_uri:
        raise SettingsError(
            "model_artifacts_uri is set, but the engine is external: it has its weights already. Empty the parameter."
        )
    return EnginePlan(
        engine="external",
        line="external engine",
        argv=(),
        env={},
        cwd=str(hosting.code_dir),
        host=settings.server_host or LOOPBACK,
        port=settings.server_port or DEFAULT_PORT,
        health_path=settings.health_route or HEALTH_PATH,
        model=settings.served_model_name,
        **common(settings, hosting),
    )
