"""What the plans of all engines have in common."""

from typing import Any

from nimdrum.hosting import Hosting
from nimdrum.platform.events import VARIABLES
from nimdrum.settings import Settings


def common(settings: Settings, hosting: Hosting) -> dict[str, Any]:
    """Arguments of `EnginePlan` that come straight from the settings."""
    return {
        "startup_timeout_sec": settings.startup_timeout_sec,
        "max_restarts": settings.max_restarts,
        "max_backoff_sec": settings.max_backoff_sec,
        "stop_timeout_sec": settings.stop_timeout_sec,
        "stall_timeout_sec": settings.stall_timeout_sec,
        "platform": {name: hosting.environ[name] for name in VARIABLES if hosting.environ.get(name)},
        "verify_ssl": settings.verify_ssl,
    }
