"""Where the engine is, for all rows of this process: one of them looks for a lost engine, the others wait for it."""

import threading
import time
from collections.abc import Callable

from nimdrum.base.errors import EngineStartError, EngineUnavailableError
from nimdrum.session.attach import Endpoint

WaitReady = Callable[[float, Callable[[], bool]], Endpoint]

FIRST_PAUSE_SEC = 0.25
LONGEST_PAUSE_SEC = 2.0
WAKE_SEC = 0.5


class Gate:
    """Open while the engine is there. Nothing is sent to an engine that was lost until it is ready again."""

    def __init__(self, wait_ready: WaitReady) -> None:
        self._wait_ready = wait_ready
        self._changed = threading.Condition()
        self._endpoint: Endpoint | None = None
        self._searching = False
        self._losses = 0
        self._given_up: EngineStartError | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the engine was last seen ready, None while it is lost."""
        return self._endpoint

    def found(self, endpoint: Endpoint) -> None:
        with self._changed:
            self._endpoint = endpoint
            self._given_up = None
            self._changed.notify_all()

    def answered(self) -> None:
        """The engine has answered: it is really back."""
        self._losses = 0

    def lost(self, endpoint: Endpoint) -> None:
        """`endpoint` did not answer."""
        with self._changed:
            if self._endpoint == endpoint:
                self._endpoint = None
                self._losses += 1

    def wait(self, timeout_sec: float, stopped: Callable[[], bool]) -> Endpoint:
        """The endpoint once the engine is ready. Raises EngineStartError, SupervisorError, EngineUnavailableError.

        An engine that will never be ready is looked for once: a batch may have a hundred thousand rows left.
        """
        deadline = time.monotonic() + timeout_sec
        while True:
            with self._changed:
                if self._endpoint is not None:
                    return self._endpoint
                if self._given_up is not None:
                    raise EngineStartError(*self._given_up.args)
                left = deadline - time.monotonic()
                if left <= 0 or stopped():
                    raise EngineUnavailableError("The engine did not come back in the time that was left.")
                if self._searching:
                    self._changed.wait(min(left, WAKE_SEC))
                    continue
                self._searching = True
            return self._search(deadline, stopped)

    def _search(self, deadline: float, stopped: Callable[[], bool]) -> Endpoint:
        found = None
        try:
            self._pause(deadline, stopped)
            found = self._wait_ready(deadline - time.monotonic(), stopped)
            return found
        except EngineStartError as error:
            self._given_up = error
            raise
        finally:
            with self._changed:
                self._searching = False
                self._endpoint = found
                self._changed.notify_all()

    def _pause(self, deadline: float, stopped: Callable[[], bool]) -> None:
        """Give the supervisor time to notice what a row notices first; longer each time in a row."""
        pause = min(LONGEST_PAUSE_SEC, FIRST_PAUSE_SEC * 2 ** max(0, min(self._losses, 8) - 1)) if self._losses else 0.0
        until = min(deadline, time.monotonic() + pause)
        while (left := until - time.monotonic()) > 0 and not stopped():
            time.sleep(min(left, 0.1))
