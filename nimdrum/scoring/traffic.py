"""What all calls of this process share about one engine: its place, its connections, its window, and who watches it."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nimdrum.base.errors import EngineStartError, EngineUnavailableError
from nimdrum.base.log import event, get_logger
from nimdrum.engines.connection import TooLarge
from nimdrum.engines.work import Metrics, Work, find_page
from nimdrum.scoring.window import Window, bounded
from nimdrum.session.attach import Attachment, Endpoint
from nimdrum.session.client import IDLE_SEC, EngineClient, TooSlow, Unreachable
from nimdrum.system.descriptors import connections_left

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


FINDING_SEC = 0.05
WATCHING_SEC = 0.5
FINDING_SHARE = 0.25
WATCHING_SHARE = 0.05
"""The metrics page may take this share of the time at most: making it costs the engine's HTTP front."""
LONGEST_POLL_SEC = 2.0
LINGER_SEC = 5.0
PAGE_TIMEOUT_SEC = 2.0
MISSES = 3
"""Metrics are given up for an endpoint that never showed them after so many tries."""

log = get_logger("score")


@dataclass
class Traffic:
    """Shared by all rows that go to one engine from this process. Safe to use from many threads."""

    window: Window
    gate: Gate
    metrics: Metrics
    _clients: dict[tuple[str, int], EngineClient] = field(default_factory=dict)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _watcher: threading.Thread | None = None
    _calls: int = 0

    def client(self, endpoint: Endpoint) -> EngineClient:
        """The connections to `endpoint`; a restarted engine on another port gets new ones."""
        key = (endpoint.host, endpoint.port)
        client = self._clients.get(key)
        if client is None:
            with self._starting:
                if key not in self._clients:
                    self._clients.clear()
                    self._clients[key] = EngineClient(*key)
                client = self._clients[key]
        return client

    def close_idle(self) -> None:
        """Close the connections that carry no row now."""
        for client in list(self._clients.values()):
            client.close_idle()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While a call is inside, a thread looks at the engine and moves the window."""
        with self._starting:
            self._calls += 1
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = threading.Thread(target=self._watch, name="nimdrum-window", daemon=True)
                self._watcher.start()
        try:
            yield
        finally:
            with self._starting:
                self._calls -= 1

    def _watch(self) -> None:
        page = MetricsPage(self.metrics)
        quiet_since = None
        while True:
            began = time.monotonic()
            endpoint = self.gate.endpoint
            work = page.read(self.client(endpoint), endpoint) if endpoint is not None else Work(None, None, None)
            took = time.monotonic() - began
            before = self.window.size
            if self.window.look(work.running, work.waiting):
                event(
                    log,
                    "window.moved",
                    to=self.window.size,
                    was=before,
                    in_flight=self.window.in_flight,
                    running=work.running,
                    waiting=work.waiting,
                )
            for client in list(self._clients.values()):
                client.close_idle(IDLE_SEC)
            with self._starting:
                quiet_since = None if self._calls else quiet_since or began
                if quiet_since is not None and began - quiet_since >= LINGER_SEC:
                    self._watcher = None
                    return
            finding = self.window.is_finding
            rest, share = (FINDING_SEC, FINDING_SHARE) if finding else (WATCHING_SEC, WATCHING_SHARE)
            time.sleep(min(LONGEST_POLL_SEC, max(rest, took / share)))


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
            with contextlib.suppress(Unreachable, TooSlow, TooLarge):
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


_traffic: dict[tuple[int, str, int], Traffic] = {}


def traffic_to(attachment: Attachment, max_concurrency: int) -> Traffic:
    """This process's traffic to an engine. A forked child gets its own: a lock must not cross a fork."""
    key = (os.getpid(), str(attachment.run_dir.path), max_concurrency)
    traffic = _traffic.get(key)
    if traffic is None:
        for old in [other for other in _traffic if other[0] != key[0]]:
            del _traffic[old]
        plan = attachment.plan
        window = Window(bounded(plan.bounds, max_concurrency, connections_left()))
        traffic = _traffic.setdefault(key, Traffic(window, Gate(attachment.wait_ready), plan.metrics))
    return traffic
