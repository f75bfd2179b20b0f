"""A request of a caller, sent to the engine: wait until it is ready, connect, and say honestly what went wrong."""

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nimdrum.base.errors import ChatError, EngineUnavailableError
from nimdrum.engines.wire import own_error
from nimdrum.supervisor.attach import Endpoint
from nimdrum.web.caller import Caller
from nimdrum.web.exchange import Ask, Broken, Exchange, ExchangeError, Late, Refused

if TYPE_CHECKING:
    from nimdrum.hooks import Model

CONNECT_AGAIN_SEC = 10.0  # a supervisor notices within a moment that its engine ended, or that an external one is away
CONNECT_PAUSE_SEC = 0.1
MARGIN_SEC = 5.0  # our own answer must be out before DRUM kills the worker
STATUS_CLIENT_GONE = 499  # nginx's; nobody reads it


def via_name(model: "Model") -> str:
    """What this server calls itself in Via headers: a request that already carries it runs in a circle."""
    return "nimdrum-" + hashlib.sha256(model.attachment.run_dir.path.name.encode()).hexdigest()[:12]


def own_headers(model: "Model", caller: Caller) -> list[tuple[str, str]]:
    """What every request to the engine carries."""
    headers = [("Via", f"1.1 {via_name(model)}")]
    if request_id := caller.engine_request_id():
        headers.append(("X-Request-Id", request_id))
    return headers


def time_limit_sec(model: "Model") -> float:
    """How long one request to the engine may take here."""
    limit = model.hosting.request_timeout_sec
    allowed = max(1.0, limit - MARGIN_SEC) if limit else float("inf")
    return min(model.settings.client_timeout_sec, allowed)


def call_engine(model: "Model", caller: Caller, ask: Callable[[Endpoint], Ask]) -> Exchange:
    """Send what `ask` makes for the engine's present endpoint; the head of the answer is there when this returns.

    A request that comes while the engine starts waits for it. Asked again is only where nothing was sent yet.
    Raises ChatError (503, 504), EngineStartError or EngineUnavailableError.
    """
    deadline = time.monotonic() + time_limit_sec(model)
    refused_since: float | None = None
    while True:
        endpoint = model.attachment.wait_ready(
            min(model.request_timeout_sec, deadline - time.monotonic()), stopped=caller.gone
        )
        try:
            return Exchange(endpoint, ask(endpoint), deadline - time.monotonic(), caller.gone)
        except Refused as error:
            now = time.monotonic()
            refused_since = now if refused_since is None else refused_since
            if now - refused_since > CONNECT_AGAIN_SEC or now >= deadline or caller.gone():
                raise EngineUnavailableError(
                    "The engine could not be reached: it may be restarting. Try again."
                ) from error
            time.sleep(CONNECT_PAUSE_SEC)
        except ExchangeError as error:
            raise as_chat_error(error) from error


def as_chat_error(error: ExchangeError) -> ChatError:
    """What the caller is told about an answer that did not come, or not whole."""
    if isinstance(error, Late):
        message = "The engine did not answer in time (DRUM_OPENAI_CLIENT_TIMEOUT, or DRUM's limit for one request)."
        return ChatError(message, 504, own_error(message, "timeout", 504))
    if isinstance(error, Broken | Refused):
        message = "The engine's answer broke off; it may be restarting. Ask again."
        return ChatError(message, 503, own_error(message, "engine_unavailable", 503))
    return ChatError("The caller went away.", STATUS_CLIENT_GONE)
