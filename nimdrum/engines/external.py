"""The plan for an engine that runs elsewhere (a sidecar, NIM Operator, Dynamo, another host): nothing to start."""

from nimdrum.engines.nim import HEALTH_PATH
from nimdrum.engines.plan import LOOPBACK, EnginePlan
from nimdrum.settings import Settings

DEFAULT_PORT = 8000


def external_plan(settings: Settings, cwd: str) -> EnginePlan:
    return EnginePlan(
        engine="external",
        line="external engine",
        argv=(),
        env={},
        cwd=cwd,
        host=settings.server_host or LOOPBACK,
        port=settings.server_port or DEFAULT_PORT,
        health_path=settings.health_route or HEALTH_PATH,
        model=settings.served_model_name,
        startup_timeout_sec=settings.startup_timeout_sec,
        max_restarts=settings.max_restarts,
        max_backoff_sec=settings.max_backoff_sec,
        stop_timeout_sec=0,
    )
