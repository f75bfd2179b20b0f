"""Signs of life of one engine, seen from outside: ready, lost, silent, alive or dead.

The verdict is pure (`Vital` and after it). A busy engine may answer its health route late or not at all, so where
a metrics page counts tokens, only the count decides: it moves, or there is no work. Health decides where nothing is
counted.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nimdrum.engines.plan import EnginePlan
from nimdrum.engines.work import Work
from nimdrum.supervisor import probe
from nimdrum.supervisor.policy import Alive, Event, Failed, Lost, Ready, Silent
from nimdrum.supervisor.probe import Address, Health, RepeatedLook, Token
from nimdrum.system.ports import listens_below


@dataclass(frozen=True)
class Vital:
    """When the engine last gave a sign of life, on the supervisor's clock, and what its counters said then."""

    alive_at: float
    moved_at: float
    """When a counter last moved: a stronger sign than being idle."""
    progress: float | None = None


def after_work(vital: Vital, work: Work, now: float) -> Vital:
    """After a look at the metrics page."""
    if work.progress is None:
        return vital
    if work.progress != vital.progress:
        return replace(vital, alive_at=now, moved_at=now, progress=work.progress)
    if not work.running and not work.waiting:
        return replace(vital, alive_at=now)
    return vital


def after_health(vital: Vital, now: float) -> Vital:
    """After health answered well."""
    return vital if vital.progress is not None else replace(vital, alive_at=now)


def silence(vital: Vital, now: float, stall_timeout_sec: float) -> str | None:
    """Why the engine looks dead, or None while it does not."""
    silent_sec = now - vital.alive_at
    if silent_sec < stall_timeout_sec:
        return None
    if vital.progress is not None:
        return f"The engine has work, but made no token and ended no request for {silent_sec:.0f} s."
    return f"The engine has answered neither health nor metrics for {silent_sec:.0f} s."


STARTING_INTERVAL_SEC = 0.2
RUNNING_INTERVAL_SEC = 1.0
LONGEST_WORK_INTERVAL_SEC = 3.0
BAD_LOOKS = 3
"""A ready engine is called unwell only after so many bad answers in a row."""


def work_interval(stall_timeout_sec: float) -> float:
    """Seconds between two looks at the metrics page: a tenth of the silence that is looked for, within bounds. The page
    is made by the process that answers requests: 3 ms of its time with one API server, 6 ms with two."""
    return min(LONGEST_WORK_INTERVAL_SEC, max(RUNNING_INTERVAL_SEC, stall_timeout_sec / 10))


class Watch:
    """Two threads that look (health, work) and one for each last question. `tell` gets events, from any thread."""

    def __init__(self, plan: EnginePlan, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._own = bool(plan.argv)
        self._speaks_for_others = plan.speaks_for_others
        self._line = plan.line
        self._stall_timeout_sec = plan.stall_timeout_sec
        self._address = Address(plan.host, plan.port, plan.health_path, plan.model, plan.metrics)
        self._lock = threading.Lock()
        self._vital = Vital(alive_at=time.monotonic(), moved_at=time.monotonic())
        self._bad_looks = 0
        self._ready = False
        self.model: str | None = None
        """Name to use in requests, once ready."""
        self.seen = "no answer yet"
        """What health last said, for a person."""
        self._watchers: list[RepeatedLook[Health] | RepeatedLook[Work]] = [
            RepeatedLook(self._look_at_health, self._on_health),
            RepeatedLook(lambda: probe.look_at_work(self._address), self._on_work),
        ]

    def begin(self) -> None:
        for watcher in self._watchers:
            watcher.start()

    def stop(self) -> None:
        for watcher in self._watchers:
            watcher.stop()

    def silence(self) -> Silent | None:
        """An event when the engine has been silent for too long; asked in every tick while it runs."""
        if not self._own:
            return None
        reason = silence(self._vital, time.monotonic(), self._stall_timeout_sec)
        return Silent(reason) if reason else None

    def ask(self) -> None:
        """Ask for one token in a thread of its own, and tell whether the engine is alive or has failed."""
        threading.Thread(target=self._ask, name="engine-last-question", daemon=True).start()

    def _look_at_health(self) -> Health:
        if self._ready:
            return probe.look_ready(self._address, probe.RUNNING_TIMEOUT_SEC)
        health = probe.look_ready(self._address, probe.STARTING_TIMEOUT_SEC)
        if health.ready and self._own and listens_below(self._address.port) is False:
            return Health(False, None, f"port {self._address.port} is answered by a process that is not our engine")
        return health

    def _on_health(self, health: Health) -> float:
        self.seen = health.detail
        if health.ready:
            self._bad_looks = 0
            with self._lock:
                self._vital = after_health(self._vital, time.monotonic())
            if not self._ready:
                self._ready, self.model = True, health.model
                with self._lock:
                    self._vital = Vital(alive_at=time.monotonic(), moved_at=time.monotonic())
                self._tell(Ready())
        elif self._ready:
            self._on_bad_health(health)
        return RUNNING_INTERVAL_SEC if self._ready else STARTING_INTERVAL_SEC

    def _on_bad_health(self, health: Health) -> None:
        """Our own engine is judged by its answers: none at all may mean that it is busy, and `silence` decides then."""
        self._bad_looks += 1 if health.answered or not self._own else 0
        if self._bad_looks != BAD_LOOKS:
            return
        if self._own and not self._speaks_for_others:
            self._tell(Silent(f"The engine says itself that it is not well: {health.detail}."))
        else:
            self._ready = False
            self._bad_looks = 0
            where = f"external engine at {self._address.host}:{self._address.port}"
            self._tell(Lost(f"The {self._line if self._own else where} does not answer as it should: {health.detail}."))

    def _on_work(self, work: Work) -> float:
        if self._ready:
            with self._lock:
                self._vital = after_work(self._vital, work, time.monotonic())
        return work_interval(self._stall_timeout_sec)

    def _ask(self) -> None:
        asked_at = time.monotonic()
        answer = probe.ask_one_token(self._address, self.model or "")
        # An answer may be late because the queue is long; then the counters have moved meanwhile.
        if answer is Token.MADE or (answer is Token.LATE and self._vital.moved_at > asked_at):
            self._bad_looks = 0
            with self._lock:
                self._vital = Vital(time.monotonic(), self._vital.moved_at, self._vital.progress)
            self._tell(Alive())
        else:
            self._tell(
                Failed(f"The engine is alive but does not work: asked for one token, {answer.value}.", retry=True)
            )
