"""Truthful answers on DRUM's health routes: 200 ready, 503 with the progress, 513 with the cause.

The codes are those of DataRobot's own NIM road, which its platform expects. Everything comes from the state file:
the engine is not asked, so a busy one costs nothing.
"""

from typing import TYPE_CHECKING, Any

from nimdrum.supervisor.attach import Attachment, describe_failure, describe_progress
from nimdrum.supervisor.state import Phase

if TYPE_CHECKING:
    from nimdrum.hooks import Model

ROUTES = ("", "/", "/ping", "/ping/", "/health", "/health/")
RETRY_AFTER_SEC = 5
DRUM_PIPELINE_ERROR = 513


def health(attachment: Attachment) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Body, status and headers for the engine's state at this moment."""
    state = attachment.state()
    if state is not None and state.phase is Phase.RUNNING:
        return {"message": "OK", "model": state.model}, 200, {}
    if state is not None and state.phase is Phase.FATAL:
        return {"message": f"ERROR: {describe_failure(state)}"}, DRUM_PIPELINE_ERROR, {}
    return {"message": describe_progress(state)}, 503, {"Retry-After": str(RETRY_AFTER_SEC)}


def install_health(app: Any, model: "Model") -> None:
    """Answer the health routes of DRUM's Flask `app` before DRUM's own handlers do."""
    prefix = model.hosting.environ.get("URL_PREFIX", "").rstrip("/")
    routes = {prefix + route for route in ROUTES}

    @app.before_request  # type: ignore[untyped-decorator]
    def answer_health() -> Any:
        from flask import request

        if request.method in ("GET", "HEAD") and request.path in routes:
            return health(model.attachment)
        return None
