"""Deployment events: the stages of a start, as DataRobot shows them to whoever waits for a deployment.

Reported from a thread of its own with a short time limit, so that an unreachable platform delays nothing. Outside a
deployment (no id, no endpoint or no token) nothing is done, and nothing is said.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from queue import Full, Queue
from typing import Any

from nimdrum.base.hosting import PLATFORM_VARIABLES
from nimdrum.base.log import event, get_logger

TIMEOUT_SEC = 5.0
WAITING_EVENTS = 50
STAGES = ("starting", "downloading", "loading", "ready")
DOWNLOADING = re.compile(r"download|fetching files", re.IGNORECASE)
LOADING = re.compile(
    r"workspace is now ready|loading (model|weights|safetensors)|load_model|starting to load", re.IGNORECASE
)

log = get_logger("events")


@dataclass(frozen=True)
class Destination:
    """Where a deployment's events go."""

    url: str
    deployment_id: str
    token: str = field(repr=False)
    verify: bool = True


def find_destination(environ: Mapping[str, str], verify: bool) -> Destination | None:
    """The platform that this process is deployed on, or None."""
    endpoint, token, deployment = (environ.get(name, "").strip() for name in PLATFORM_VARIABLES)
    if not (endpoint and token and deployment):
        return None
    return Destination(f"{endpoint.rstrip('/')}/remoteEvents/", deployment, token, verify)


def stage_of(line: str) -> str | None:
    """The stage that a line of the engine's log tells, if it tells one."""
    return "loading" if LOADING.search(line) else "downloading" if DOWNLOADING.search(line) else None


def payload(destination: Destination, stage: str, message: str, at: datetime) -> dict[str, str]:
    """One event, in the shape of DRUM's own `MLOpsStatusReporter`."""
    title = "Deployment status"
    if stage in STAGES:
        title = f"Deployment stage {STAGES.index(stage) + 1} out of {len(STAGES)}"
    return {
        "eventType": "deploymentInfo",
        "title": title,
        "message": message,
        "timestamp": at.isoformat(),
        "deploymentId": destination.deployment_id,
    }


class Reporter:
    """Sends each stage once in a row, in order, from its own thread."""

    def __init__(self, destination: Destination | None) -> None:
        self._destination = destination
        self._last = ""
        self._queue: Queue[dict[str, str]] = Queue(WAITING_EVENTS)
        if destination is not None:
            threading.Thread(
                target=self._send_forever, args=(destination,), name="deployment-events", daemon=True
            ).start()

    def report(self, stage: str, message: str, *, again: bool = False) -> None:
        """Queue an event; dropped when too many wait already. `again` sends a stage that was the last one too."""
        if self._destination is None or (stage == self._last and not again):
            return
        self._last = stage
        try:
            self._queue.put_nowait(payload(self._destination, stage, message, datetime.now(timezone.utc)))
        except Full:
            event(log, "events.dropped", stage=stage)

    def _send_forever(self, destination: Destination) -> None:
        while True:
            document = self._queue.get()
            try:
                _post(destination, document)
            except Exception as error:  # whatever it is, a report must not harm the engine
                event(log, "events.not_sent", title=document["title"], error=type(error).__name__)


def _post(destination: Destination, document: dict[str, Any]) -> None:
    import requests  # only where there is somebody to tell

    headers = {"Authorization": f"Bearer {destination.token}"}
    answer = requests.post(
        destination.url, json=document, headers=headers, verify=destination.verify, timeout=TIMEOUT_SEC
    )
    answer.raise_for_status()
