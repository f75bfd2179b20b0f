"""The names of the models that an engine lists, for rows that name one. Used in the loop."""

import time
from collections.abc import Callable
from contextlib import suppress

from gevent.lock import RLock

from nimdrum.engines.connection import TooLarge
from nimdrum.engines.wire import MODELS_PATH, model_names
from nimdrum.session.attach import Endpoint
from nimdrum.session.client import EngineClient, TooSlow, Unreachable

LOOK_AGAIN_SEC = 5.0
"""An engine may learn adapters while it runs (NIM_PEFT_REFRESH_INTERVAL)."""
TIMEOUT_SEC = 10.0


class Models:
    """Looks when a row names a model that was not seen, and for all rows at most once in LOOK_AGAIN_SEC."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._endpoint: Endpoint | None = None
        self._names: tuple[str, ...] = ()
        self._looked_at = 0.0
        self._turn = RLock()

    def listed(self, client: EngineClient, endpoint: Endpoint, model: str) -> tuple[str, ...]:
        """The names there, looked up again where `model` is not among them; none where the engine does not say."""
        with self._turn:
            is_fresh = endpoint == self._endpoint and self._clock() - self._looked_at < LOOK_AGAIN_SEC
            if not is_fresh and (endpoint != self._endpoint or model not in self._names):
                self._names = _look(client)
                self._endpoint, self._looked_at = endpoint, self._clock()
            return self._names


def _look(client: EngineClient) -> tuple[str, ...]:
    with suppress(Unreachable, TooSlow, TooLarge, ValueError, KeyError, TypeError, RecursionError):
        reply = client.get(MODELS_PATH, TIMEOUT_SEC)
        return tuple(model_names(reply.body)) if reply.status == 200 else ()
    return ()
