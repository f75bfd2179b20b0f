"""What all calls of this process share about one engine: its place, its connections, its window, and who watches it.

All of it is used in the loop, but for `traffic_to`.
"""

import time
from collections.abc import Callable
from contextlib import suppress

import gevent
from gevent.event import AsyncResult

from nimdrum.base.errors import EngineStartError, EngineUnavailableError
from nimdrum.base.log import event, get_logger
from nimdrum.engines.connection import TooLarge
from nimdrum.engines.window import LONGEST_POLL_SEC, Window, bounded
from nimdrum.engines.work import Metrics, Work, find_page
from nimdrum.scoring.loop import name_of_loop, outside
from nimdrum.scoring.models import Models
from nimdrum.scoring.rows import Call, Turns
from nimdrum.session.attach import Attachment, Endpoint
from nimdrum.session.client import IDLE_SEC, EngineClient, TooSlow, Unreachable
from nimdrum.session.counters import show_window
from nimdrum.system.descriptors import connections_left

WaitReady = Callable[[float, Callable[[], bool]], Endpoint]

FIRST_PAUSE_SEC = 0.25
LONGEST_PAUSE_SEC = 2.0


class Gate:
    """Open while the engine is there. Nothing is sent to an engine that was lost until it is ready again."""

    def __init__(self, wait_ready: WaitReady) -> None:
        self._wait_ready = wait_ready
        self._found: AsyncResult | None = None
        self._waiting = 0
        self._losses = 0
        self.endpoint: Endpoint | None = None
        """Where the engine was last seen ready, None while it is lost."""

    def found(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        if self._found is not None and self._found.ready():
            self._found = None  # given up, and back all the same

    def answered(self) -> None:
        """The engine has answered: it is really back."""
        self._losses = 0

    def lost(self, endpoint: Endpoint) -> None:
        """`endpoint` did not answer."""
        if self.endpoint == endpoint:
            self.endpoint = None
            self._losses += 1

    def wait(self, timeout_sec: float) -> Endpoint:
        """The endpoint once the engine is ready. Raises EngineStartError, SupervisorError, EngineUnavailableError.

        An engine that will never be ready is looked for once: a batch may have a hundred thousand rows left.
        """
        if self.endpoint is not None:
            return self.endpoint
        if self._found is None:
            self._found = AsyncResult()
            gevent.spawn(self._search, self._found)
        self._waiting += 1
        try:
            endpoint: Endpoint = self._found.get(timeout=max(0.0, timeout_sec))
            return endpoint
        except gevent.Timeout:
            raise EngineUnavailableError("The engine did not come back in the time that was left.") from None
        finally:
            self._waiting -= 1

    def _search(self, found: AsyncResult) -> None:
        """For all who wait, as long as somebody does."""
        # Gives the supervisor time to notice what a row notices first; longer each time in a row.
        losses = min(self._losses, 8)
        gevent.sleep(min(LONGEST_PAUSE_SEC, FIRST_PAUSE_SEC * 2 ** (losses - 1)) if losses else 0.0)
        while True:
            alone = False

            def nobody_waits() -> bool:
                nonlocal alone
                alone = not self._waiting
                return alone

            try:
                endpoint = outside(lambda: self._wait_ready(float("inf"), nobody_waits))
            except Exception as error:
                if alone and self._waiting:
                    continue  # somebody came just as it was given up
                if not isinstance(error, EngineStartError):
                    self._found = None
                found.set_exception(error)
            else:
                self.endpoint, self._found = endpoint, None
                found.set(endpoint)
            return


TICK_SEC = 0.1
LINGER_SEC = 5.0
PAGE_TIMEOUT_SEC = 2.0
MISSES = 3
"""Metrics are given up for an endpoint that never showed them after so many tries."""

log = get_logger("score")


class Traffic:
    """Shared by all rows that go to one engine from this process."""

    def __init__(self, window: Window, gate: Gate, metrics: Metrics, batch_share: float = 1.0) -> None:
        self.window = window
        self.gate = gate
        self.turns = Turns(window, batch_share)
        self.models = Models()
        self._page = MetricsPage(metrics)
        self._client: tuple[tuple[str, int], EngineClient] | None = None
        self._watcher: gevent.Greenlet | None = None
        self._calls = 0
        self._page_at = 0.0
        """When to look at the page next."""

    def client(self, endpoint: Endpoint) -> EngineClient:
        """The connections to `endpoint`; a restarted engine on another port gets new ones."""
        key = (endpoint.host, endpoint.port)
        if self._client is None or self._client[0] != key:
            self.close_idle()
            self._client = (key, EngineClient(*key))
        return self._client[1]

    def close_idle(self, longer_than_sec: float = 0.0) -> None:
        """Close the connections that carried no row for so long."""
        if self._client is not None:
            self._client[1].close_idle(longer_than_sec)

    def begin(self, call: Call, endpoint: Endpoint) -> None:
        """Send the rows of `call`. While there are calls, somebody looks at the engine and moves the window."""
        self.gate.found(endpoint)
        self._calls += 1
        if self.window.is_finding:
            self._page_at = 0.0
        if self._watcher is None or self._watcher.dead:
            self._watcher = gevent.spawn(self._watch)
        self.turns.join(call)

    def end(self, call: Call) -> None:
        """Send no more of them."""
        self._calls -= 1
        self.turns.part(call)

    def _watch(self) -> None:
        quiet_since = time.monotonic()
        pause = 0.0
        while True:
            now = time.monotonic()
            quiet_since = now if self._calls else quiet_since
            if now - quiet_since >= LINGER_SEC:
                self.close_idle()  # a look may have taken so long that some were used just now
                return
            try:
                if now >= self._page_at:
                    pause = self._look_at_page(pause)
                    self._page_at = time.monotonic() + pause
                elif self.window.is_sighted:
                    self.window.look()
            except Exception as error:  # who watches must not end for it: the window would stay as it is
                log.error("The look at the engine failed: %s", error, exc_info=True)
                pause = LONGEST_POLL_SEC
                self._page_at = time.monotonic() + pause
            self.turns.go()
            self.close_idle(IDLE_SEC)
            gevent.sleep(min(TICK_SEC, pause))

    def _look_at_page(self, last_pause: float) -> float:
        """Move the window; the seconds until the next look at the page."""
        began, before, was_full = time.monotonic(), self.window.size, self.window.was_full
        endpoint = self.gate.endpoint
        work = self._page.read(self.client(endpoint), endpoint) if endpoint else Work(None, None, None)
        took = time.monotonic() - began
        if moved := self.window.look(work.running, work.waiting):
            event(
                log,
                "window.moved",
                to=self.window.size,
                was=before,
                in_flight=self.window.in_flight,
                running=work.running,
                waiting=work.waiting,
            )
        return self.window.pause_sec(moved, took, last_pause, was_full)


class MetricsPage:
    """Finds and reads the page that tells what the engine does."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._endpoint: Endpoint | None = None
        self._path: str | None = None
        self._misses = 0

    def read(self, client: EngineClient, endpoint: Endpoint) -> Work:
        """What the page says; all None when there is none, or none now."""

        def get(path: str) -> bytes | None:
            with suppress(Unreachable, TooSlow, TooLarge):
                reply = client.get(path, PAGE_TIMEOUT_SEC)
                return reply.body if reply.status == 200 else None
            return None

        if endpoint != self._endpoint:
            self._endpoint, self._path, self._misses = endpoint, None, 0
        page = find_page(get, self._metrics, self._path) if self._path or self._misses < MISSES else None
        if page is None or page.work.waiting is None:
            self._misses += 1
            return Work(None, None, None)
        self._path = page.path
        return page.work


_traffic: dict[tuple[object, str, int, float], Traffic] = {}


def traffic_to(attachment: Attachment, max_concurrency: int, batch_share: float = 1.0) -> Traffic:
    """This process's traffic to an engine. A forked child gets its own, and so does each loop."""
    key = (name_of_loop(), str(attachment.run_dir.path), max_concurrency, batch_share)
    traffic = _traffic.get(key)
    if traffic is None:
        plan = attachment.plan
        window = Window(bounded(plan.bounds, max_concurrency, connections_left()))
        made = Traffic(window, Gate(attachment.wait_ready), plan.metrics, batch_share)
        traffic = _traffic.setdefault(key, made)
        show_window(attachment.run_dir.path, lambda: (window.in_flight, window.size))
    return traffic
