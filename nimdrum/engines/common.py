"""What the plans of all engines have in common."""

from typing import Any

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import PLATFORM_VARIABLES, Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.environment import NETWORK


def common(settings: Settings, hosting: Hosting) -> dict[str, Any]:
    """Arguments of `EnginePlan` that come straight from the settings. Raises SettingsError."""
    if hosting.drum_port and settings.server_port == hosting.drum_port and settings.engine != "external":
        raise SettingsError(
            f"Runtime parameter DR_NIM_SERVER_PORT is {settings.server_port}, which belongs to DRUM itself. "
            "Choose another port, or 0 for a free one."
        )
    return {
        "drum_port": hosting.drum_port,
        "startup_timeout_sec": settings.startup_timeout_sec,
        "max_restarts": settings.max_restarts,
        "max_backoff_sec": settings.max_backoff_sec,
        "stop_timeout_sec": settings.stop_timeout_sec,
        "stall_timeout_sec": settings.stall_timeout_sec,
        "platform": {name: hosting.environ[name] for name in PLATFORM_VARIABLES if hosting.environ.get(name)},
        "network": {name: hosting.environ[name] for name in NETWORK if hosting.environ.get(name)},
        "verify_ssl": settings.verify_ssl,
    }
