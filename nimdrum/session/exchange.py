"""One HTTP exchange with the engine, which ends when the caller goes away or its time is up.

A connection of its own for each exchange: nothing is shared between requests, so nothing can be mixed up by a fork or
be stale after a restart, and the engine sees at once that nobody waits any more. On loopback that costs about 0.1 ms.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPMessage

from nimdrum.base.errors import ChatError, EngineUnavailableError
from nimdrum.engines.connection import BadAnswer, Connection, TooLarge
from nimdrum.engines.wire import own_error
from nimdrum.session.attach import Endpoint
from nimdrum.session.caller import Caller
from nimdrum.session.model import Model

CONNECT_TIMEOUT_SEC = 5.0
LARGEST_ANSWER = 64 << 20
"""Of one that is read whole: a long answer with the likelihoods of all its tokens has a quarter of it."""


class ExchangeError(Exception):
    """The engine gave no whole answer."""


class Refused(ExchangeError):
    """Nobody listens there; nothing was sent, so asking again is safe."""


class Broken(ExchangeError):
    """The connection ended before the answer did."""


class Late(ExchangeError):
    """The time for this request is up."""


class Endless(ExchangeError):
    """The answer is larger than any that is waited for."""


class CallerGone(ExchangeError):
    """Whoever asked does not wait for the answer any more."""


@dataclass(frozen=True)
class Ask:
    """An HTTP request to the engine. `target` is a path with its query, already percent-encoded."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = field(default=None, repr=False)


class Exchange:
    """A request that was sent, and its answer: status and headers now, the body as it comes. Close it."""

    status: int
    headers: HTTPMessage

    def __init__(
        self,
        endpoint: Endpoint,
        ask: Ask,
        timeout_sec: float,
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send `ask` and wait for the head of the answer. `gone` is asked four times a second.

        Raises Refused, Broken, Late or CallerGone.
        """
        self.endpoint = endpoint
        self._gone = gone
        connect_sec = min(CONNECT_TIMEOUT_SEC, max(timeout_sec, 0.1))
        try:
            self._connection = Connection(endpoint.host, endpoint.port, connect_sec, self._look_at_caller)
        except OSError as error:
            raise Refused(f"no connection to the engine ({error.strerror or type(error).__name__})") from error
        self._connection.deadline = time.monotonic() + max(timeout_sec, 0.0)
        try:
            with _told():
                self._connection.ask(ask.method, ask.target, [*ask.headers, ("Connection", "close")], ask.body)
                self.status = self._connection.head()
        except BaseException:
            self.close()
            raise
        self.headers = HTTPMessage()
        for name, value in self._connection.headers:
            self.headers[name] = value

    def pieces(self) -> Iterator[bytes]:
        """The body, each piece as soon as it is there. Raises Broken, Late or CallerGone."""
        with _told():
            yield from self._connection.pieces()

    def read(self, largest: int = LARGEST_ANSWER) -> bytes:
        """The whole body. Raises as `pieces` does, and Endless when it has more than `largest` bytes."""
        self._connection.largest = largest
        with _told():
            return self._connection.read()

    def close(self) -> None:
        """Let go of the connection, which also stops the engine's work on an answer that is not finished."""
        self._connection.close()

    def _look_at_caller(self) -> None:
        if self._gone():
            raise CallerGone("the caller went away")


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with a connection, in this file's words."""
    try:
        yield
    except TooLarge as error:
        raise Endless("the engine's answer has no end") from error
    except TimeoutError as error:
        raise Late("the engine did not answer in time") from error
    except (OSError, BadAnswer) as error:
        raise Broken("the engine's answer broke off") from error


CONNECT_AGAIN_SEC = 10.0  # a supervisor notices within a moment that its engine ended, or that an external one is away
CONNECT_PAUSE_SEC = 0.1
STATUS_CLIENT_GONE = 499  # nginx's; nobody reads it


def via_name(model: Model) -> str:
    """What this server calls itself in Via headers: a request that already carries it runs in a circle."""
    return "nimdrum-" + hashlib.sha256(model.attachment.run_dir.path.name.encode()).hexdigest()[:12]


def own_headers(model: Model, caller: Caller) -> list[tuple[str, str]]:
    """What every request to the engine carries."""
    headers = [("Via", f"1.1 {via_name(model)}")]
    if request_id := caller.engine_request_id():
        headers.append(("X-Request-Id", request_id))
    return headers


def time_limit_sec(model: Model, asked_sec: float | None = None) -> float:
    """How long one request to the engine may take here; `asked_sec` takes the place of the client's time-out."""
    return min(asked_sec or model.settings.client_timeout_sec, model.drums_limit_sec)


class EngineCall:
    """One request of `caller` to the engine: ask where it is, make the request, send it; all within one time limit."""

    def __init__(self, model: Model, caller: Caller, asked_sec: float | None = None) -> None:
        self._model = model
        self._caller = caller
        self._deadline = time.monotonic() + time_limit_sec(model, asked_sec)

    def ready(self) -> Endpoint:
        """Where the engine is; a request that comes while it starts waits for it.

        Raises EngineStartError or EngineUnavailableError.
        """
        left = self._deadline - time.monotonic()
        return self._model.attachment.wait_ready(min(self._model.row_timeout_sec, left), stopped=self._caller.gone)

    def send(self, ask: Ask, endpoint: Endpoint) -> Exchange:
        """Send `ask`; the head of the answer is there when this returns. Sent again, to where the engine is by then, is
        only what was not sent yet. Raises ChatError (503, 504), EngineStartError or EngineUnavailableError."""
        refused_since: float | None = None
        while True:
            try:
                return Exchange(endpoint, ask, self._deadline - time.monotonic(), self._caller.gone)
            except Refused as error:
                now = time.monotonic()
                refused_since = now if refused_since is None else refused_since
                if now - refused_since > CONNECT_AGAIN_SEC or now >= self._deadline or self._caller.gone():
                    raise EngineUnavailableError(
                        "The engine could not be reached: it may be restarting. Try again."
                    ) from error
                time.sleep(CONNECT_PAUSE_SEC)
            except ExchangeError as error:
                raise as_chat_error(error) from error
            endpoint = self.ready()


def as_chat_error(error: ExchangeError) -> ChatError:
    """What the caller is told about an answer that did not come, or not whole."""
    if isinstance(error, Late):
        message = "The engine did not answer in time (DRUM_OPENAI_CLIENT_TIMEOUT, or DRUM's limit for one request)."
        return ChatError(message, 504, own_error(message, "timeout", 504))
    if isinstance(error, Endless):
        message = "The engine's answer has no end: it is larger than any that makes sense."
        return ChatError(message, 502, own_error(message, "engine_error", 502))
    if isinstance(error, Broken | Refused):
        message = "The engine's answer broke off; it may be restarting. Ask again."
        return ChatError(message, 503, own_error(message, "engine_unavailable", 503))
    return ChatError("The caller went away.", STATUS_CLIENT_GONE)
