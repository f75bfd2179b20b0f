"""Is the engine ready? Health answers 200, and /v1/models lists the model that we asked for."""

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

STARTING_INTERVAL_SEC = 0.2
RUNNING_INTERVAL_SEC = 2.0
TIMEOUT_SEC = 5.0
MISSES_ALLOWED = 3
"""A ready engine is called unready only after this many bad looks in a row: a busy one answers health late."""
MODELS_PATH = "/v1/models"
LARGEST_BODY = 4 << 20


@dataclass(frozen=True)
class Probe:
    """One look at the engine."""

    ready: bool
    model: str | None
    """The name to use in requests; None when not ready."""
    detail: str
    """What was seen, for the log."""


def probe(host: str, port: int, health_path: str, model: str | None) -> Probe:
    """Look once. Never raises for what the other side does or fails to do.

    Health alone is not enough: another server on the port would answer it too.
    """
    try:
        status, _ = _get(host, port, health_path)
        if status != http.client.OK:
            return Probe(False, None, f"{health_path} answers {status}")
        status, body = _get(host, port, MODELS_PATH)
        if status != http.client.OK:
            return Probe(False, None, f"{MODELS_PATH} answers {status}")
        names = [entry["id"] for entry in json.loads(body)["data"]]
    except OSError as error:
        return Probe(False, None, f"no answer ({error.strerror or type(error).__name__})")
    except (http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return Probe(False, None, f"answers, but not as a model server does ({type(error).__name__})")
    if model is None and names:
        return Probe(True, str(names[0]), "ready")
    if model in names:
        return Probe(True, model, "ready")
    return Probe(False, None, f"{MODELS_PATH} lists {', '.join(map(str, names)) or 'nothing'}, not {model}")


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    # http.client knows no proxies, which is what loopback wants.
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SEC)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(LARGEST_BODY)
    finally:
        connection.close()


class Prober(threading.Thread):
    """Looks again and again until stopped, and tells `report` each time that what it sees has changed."""

    def __init__(self, look: Callable[[], Probe], report: Callable[[Probe], None]) -> None:
        super().__init__(name="engine-probe", daemon=True)
        self._look = look
        self._report = report
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        seen: Probe | None = None
        misses = 0
        while not self._stopped.is_set():
            now = self._look()
            was_ready = seen is not None and seen.ready
            misses = misses + 1 if was_ready and not now.ready else 0
            if now != seen and misses in (0, MISSES_ALLOWED) and not self._stopped.is_set():
                seen = now
                self._report(now)
            self._stopped.wait(RUNNING_INTERVAL_SEC if was_ready or now.ready else STARTING_INTERVAL_SEC)
