"""One HTTP exchange with the engine, which ends when the caller goes away or its time is up.

A connection of its own for each exchange: nothing is shared between requests, so nothing can be mixed up by a fork or
be stale after a restart, and the engine sees at once that nobody waits any more. On loopback that costs about 0.1 ms.
"""

import hashlib
import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from socket import SHUT_RDWR

from nimdrum.base.errors import ChatError, EngineUnavailableError
from nimdrum.engines.connection import Connection, TooLarge
from nimdrum.engines.wire import own_error
from nimdrum.session.attach import Endpoint
from nimdrum.session.caller import Caller
from nimdrum.session.model import Model

CONNECT_TIMEOUT_SEC = 5.0
WATCH_EVERY_SEC = 0.25
PIECE_BYTES = 1 << 16
LARGEST_ANSWER = 64 << 20
"""Of one that is read whole: a long answer with the likelihoods of all its tokens has a quarter of it."""
FOLD = re.compile(r"\r?\n[ \t]+")
FIT = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


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
    headers: http.client.HTTPMessage

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
        self._why: ExchangeError | None = None
        self._finished = threading.Event()
        self._gone = gone
        self._deadline = time.monotonic() + timeout_sec
        self._connection = Connection(endpoint.host, endpoint.port, min(CONNECT_TIMEOUT_SEC, max(timeout_sec, 0.1)))
        try:
            self._connection.connect()
        except OSError as error:
            raise Refused(f"no connection to the engine ({error.strerror or type(error).__name__})") from error
        self._sock = self._connection.sock  # http.client forgets it once the head is read
        # The watch is sooner.
        self._connection.deadline = time.monotonic() + max(timeout_sec, 0) + 2 * WATCH_EVERY_SEC
        self._sock.settimeout(self._connection.allow())
        try:
            threading.Thread(target=self._watch, name="nimdrum-caller", daemon=True).start()
            self._response = self._send(ask)
        except BaseException:
            self.close()
            raise
        self.status = self._response.status
        self.headers = passable(self._response.headers)

    def pieces(self) -> Iterator[bytes]:
        """The body, each piece as soon as it is there. Raises Broken, Late or CallerGone."""
        while True:
            try:
                piece = self._response.read1(PIECE_BYTES)
            except (http.client.HTTPException, OSError, ValueError) as error:
                raise self._reason(error) from error
            if not piece:
                if self._why or self._response.length:
                    raise self._reason(None)
                return
            yield piece

    def read(self, largest: int = LARGEST_ANSWER) -> bytes:
        """The whole body. Raises as `pieces` does, and Endless when it has more than `largest` bytes."""
        self._connection.largest = largest
        return b"".join(self.pieces())

    def close(self) -> None:
        """Let go of the connection, which also stops the engine's work on an answer that is not finished."""
        self._finished.set()
        if hasattr(self, "_response"):
            self._response.close()
        self._connection.close()

    def _send(self, ask: Ask) -> http.client.HTTPResponse:
        connection = self._connection
        try:
            connection.putrequest(ask.method, ask.target, skip_accept_encoding=True)
            for name, value in ask.headers:
                connection.putheader(name, value)
            if ask.body is not None:
                connection.putheader("Content-Length", str(len(ask.body)))
            connection.putheader("Connection", "close")
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it read all
                connection.endheaders(ask.body)
            return connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            raise self._reason(error) from error

    def _reason(self, error: Exception | None) -> ExchangeError:
        if self._why:
            return self._why
        if isinstance(error, TooLarge):
            return Endless("the engine's answer has no end")
        if isinstance(error, TimeoutError):
            return Late("the engine did not answer in time")
        return Broken("the engine's answer broke off")

    def _watch(self) -> None:
        while not self._finished.wait(WATCH_EVERY_SEC):
            if self._gone():
                self._why = CallerGone("the caller went away")
            elif time.monotonic() >= self._deadline:
                self._why = Late("the engine did not answer in time")
            if self._why:
                with suppress(OSError):
                    self._sock.shutdown(SHUT_RDWR)  # wakes the thread that reads; closing would not
                return


def passable(headers: http.client.HTTPMessage) -> http.client.HTTPMessage:
    """`headers` as they may be sent on: folded lines are one line, and what holds control characters is left out."""
    fit = http.client.HTTPMessage()
    for name, value in headers.items():
        value = FOLD.sub(" ", value)
        if name and FIT.fullmatch(value):
            fit[name] = value
    return fit


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
