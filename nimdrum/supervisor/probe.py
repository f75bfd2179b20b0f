"""Looking at the engine from outside: is it ready, does its work move, does it make one token when asked?

Each look is one function that never raises for what the other side does or fails to do.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Generic, TypeVar

from nimdrum.engines.connection import BadAnswer, Connection
from nimdrum.engines.wire import CHAT_PATH, MODELS_PATH, model_names
from nimdrum.engines.work import Metrics, Work, find_page

STARTING_TIMEOUT_SEC = 5.0
RUNNING_TIMEOUT_SEC = 60.0  # the health route of a saturated engine may take most of a minute
WORK_TIMEOUT_SEC = 10.0
TOKEN_TIMEOUT_SEC = 10.0
LARGEST_BODY = 4 << 20
SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Address:
    """Where an engine listens, and what to ask it for."""

    host: str
    port: int
    health_path: str
    model: str | None
    """Name that it must list; None takes the first one listed."""
    metrics: Metrics


@dataclass(frozen=True)
class Health:
    """One look at health and models."""

    ready: bool
    model: str | None
    """The name to use in requests; None when not ready."""
    detail: str
    """What was seen, for a person."""
    answered: bool = True
    """False when there was no answer at all: an engine may just be too busy for one."""


def look_ready(address: Address, timeout_sec: float) -> Health:
    """Health answers 200, and /v1/models lists our model: another server on the port would answer health too."""
    try:
        status, body = _request(address, "GET", address.health_path, timeout_sec)
        told = _message(body)
        if status != HTTPStatus.OK:
            return Health(False, None, f"{address.health_path} answers {status}" + (f": {told}" if told else ""))
        status, body = _request(address, "GET", MODELS_PATH, timeout_sec)
        if status != HTTPStatus.OK:
            return Health(False, None, f"{MODELS_PATH} answers {status}")
        names = model_names(body)
    except OSError as error:
        return Health(False, None, f"no answer ({error.strerror or type(error).__name__})", answered=False)
    except (BadAnswer, ValueError, KeyError, TypeError, RecursionError) as error:
        return Health(False, None, f"answers, but not as a model server does ({type(error).__name__})")
    if address.model is None and names:
        return Health(True, names[0], told or "ready")
    if address.model in names:
        return Health(True, address.model, told or "ready")
    listed = ", ".join(names)[:SHOWN_CHARACTERS] or "nothing"
    return Health(False, None, f"{MODELS_PATH} lists {listed}, not {address.model}")


def _message(body: bytes) -> str:
    """What a health route says in words; empty where it says nothing."""
    try:
        said = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return said[:SHOWN_CHARACTERS].rstrip(".") if isinstance(said, str) else ""


def look_at_work(address: Address) -> Work:
    """What the metrics page says; nothing known when there is none."""

    def get(path: str) -> bytes | None:
        try:
            status, body = _request(address, "GET", path, WORK_TIMEOUT_SEC)
        except (OSError, BadAnswer):
            return None
        return body if status == HTTPStatus.OK else None

    page = find_page(get, address.metrics)
    return page.work if page else Work(None, None, None)


class Token(Enum):
    """The outcome of asking for one token."""

    MADE = "made"
    REFUSED = "the engine answers with an error or not at all"
    LATE = "there was no answer in time"


def ask_one_token(address: Address, model: str) -> Token:
    """A real completion of one token: the last question before an engine is called dead."""
    body = {"model": model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
    try:
        status, _ = _request(address, "POST", CHAT_PATH, TOKEN_TIMEOUT_SEC, json.dumps(body).encode())
    except TimeoutError:
        return Token.LATE
    except (OSError, BadAnswer):
        return Token.REFUSED
    return Token.REFUSED if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Token.MADE


def _request(
    address: Address, method: str, path: str, timeout_sec: float, body: bytes | None = None
) -> tuple[int, bytes]:
    connection = Connection(address.host, address.port, timeout_sec)
    connection.largest = LARGEST_BODY
    try:
        connection.ask(method, path, [("Connection", "close"), ("Content-Type", "application/json")], body)
        return connection.head(), connection.read()
    finally:
        connection.close()


Seen = TypeVar("Seen")


class RepeatedLook(threading.Thread, Generic[Seen]):
    """Looks again and again until stopped, and reports what it sees.

    `report` gives the pause until the next look in seconds.
    """

    def __init__(self, look: Callable[[], Seen], report: Callable[[Seen], float]) -> None:
        super().__init__(name="engine-watch", daemon=True)
        self._look = look
        self._report = report
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.is_set():
            seen = self._look()
            if not self._stopped.is_set():
                self._stopped.wait(self._report(seen))
