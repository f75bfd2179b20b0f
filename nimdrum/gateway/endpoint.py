"""What is known of one endpoint: its window, its pace, how long it takes, and whether it answers. Used in one loop."""

import asyncio
import time
from collections.abc import Callable

from nimdrum.base.log import event, get_logger
from nimdrum.engines.endpoints import EndpointUrl, GatewayConfig
from nimdrum.engines.window import Window
from nimdrum.gateway.outgoing import Outgoing
from nimdrum.gateway.pace import Pace, Told
from nimdrum.gateway.trouble import Trouble

FIRST_PAUSE_SEC = 0.25
LONGEST_PAUSE_SEC = 30.0
PAUSE_SHARE = 0.1
"""Of the time for which it is away already: so it is found back at most so much later."""
KEPT_SEC = 60.0
"""For so long the places of one that is away are kept for it."""
FAILURES = 3
"""So many failures in a row, and it is set aside: one may be that of its request."""
SMOOTHING = 0.1
HOLD_SEC = 0.25
"""After one that was too much."""
REFUSAL_SEC = 0.1
"""A refusal comes within this time and twice that of a look at it."""

log = get_logger("gateway")


class Endpoint:
    """One of the engines elsewhere."""

    def __init__(
        self,
        url: EndpointUrl,
        config: GatewayConfig,
        outgoing: Outgoing,
        address: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.outgoing = outgoing
        self.shown = url.shown + (f" ({address})" if address else "")
        self.window = Window(config.bounds, clock)
        self.pace = Pace(config.requests_per_minute, clock, REFUSAL_SEC if config.has_credential else 0.0)
        self.model: str | None = url.model
        """What it calls the model."""
        self.is_up = False
        self.was_up = False
        self.on_trial = True
        """Back, but nothing was answered yet: one request at a time."""
        self.trouble: Trouble | None = None
        self.look_now = asyncio.Event()
        self.busy = asyncio.Event()
        self.running: float | None = None
        self.waiting: float | None = None
        """What its metrics page says of all its requests, ours and others'."""
        self.names_ids = False
        """Whether its answers name their requests."""
        self.seconds = 0.0
        """What an answer takes, of late."""
        self.answered = self.failed = self.refused = 0
        self.tries: dict[asyncio.Task[object], Callable[[], bool]] = {}
        """Tasks that wait for an answer of which no byte is there yet, each with a word that says: ask another."""
        self._in_a_row = 0
        self._away_since: float | None = None
        """Until it has answered again."""
        self._held_until = 0.0
        self._clock = clock

    def wait_sec(self) -> float | None:
        """Seconds until one more request may be sent; None when nobody can say."""
        if not self.is_up or (self.on_trial and self.window.in_flight) or not self.window.has_place():
            return None
        return max(self.pace.wait_sec(), self._held_until - self._clock())

    @property
    def load(self) -> float:
        """What one more would wait for, roughly: its share of the window times what an answer takes."""
        return (self.window.in_flight + 1 + (self.waiting or 0.0)) / self.window.size * self.seconds

    @property
    def pause_sec(self) -> float:
        """Until the next look at it, while it is away."""
        away_sec = 0.0 if self._away_since is None else self._clock() - self._away_since
        return min(LONGEST_PAUSE_SEC, max(FIRST_PAUSE_SEC, PAUSE_SHARE * away_sec))

    @property
    def kept_places(self) -> int:
        """Requests that may wait for it while it is away for a moment: else there are too few once it is back."""
        if self._away_since is None or self._clock() - self._away_since > KEPT_SEC:
            return 0
        return max(0, self.window.size - self.window.in_flight)

    def enter(self) -> float:
        """A request takes a place. Gives the time by which the pace knows it."""
        self.window.enter()
        self.busy.set()
        return self.pace.sent()

    def leave(self) -> None:
        self.window.leave()
        if not self.window.in_flight:
            self.busy.clear()

    def has_answered(self, sent_at: float, told: Told, seconds: float | None) -> None:
        """A request has its answer; `seconds` where that is a whole one of the model."""
        self.answered += 1
        self._in_a_row, self.on_trial, self._away_since = 0, False, None
        self.window.note(overload=False)
        self.pace.answered(sent_at, told)
        if seconds is not None:
            self.seconds = seconds if not self.seconds else self.seconds + SMOOTHING * (seconds - self.seconds)

    def has_refused(self, sent_at: float, told: Told) -> None:
        """It answered 429: too many a minute; or too many at once, if it shows its queue and says nothing of time."""
        self.refused += 1
        if self.window.is_sighted and told.retry_after_sec is None and told.reset_sec is None:
            self.window.note(overload=True, row=id(told))
            self._held_until = self._clock() + HOLD_SEC
        else:
            before = self.pace.per_minute
            self.pace.refused(sent_at, told)
            if self.pace.per_minute != before and self.pace.per_minute is not None:
                event(log, "endpoint.pace", at=self.shown, per_minute=round(self.pace.per_minute, 1))

    def has_failed(self, trouble: Trouble) -> None:
        """A request brought no answer, or one that says: not now."""
        self.failed += 1
        self._in_a_row += 1
        if self.on_trial or self._in_a_row >= FAILURES:
            self.set_aside(trouble)
        else:
            self._held_until = self._clock() + HOLD_SEC
            self.look_now.set()

    def set_aside(self, trouble: Trouble) -> None:
        """Nothing is sent to it until it was looked at and found well. Requests that wait for it go to others, when
        nobody answers there any more."""
        if self.is_up:
            event(log, "endpoint.away", at=self.shown, why=trouble.sentence)
            self._away_since = self._clock() if self._away_since is None else self._away_since
        self.is_up, self.on_trial, self.trouble = False, True, trouble
        self.running = self.waiting = None
        if trouble.gone:
            self.ask_others()
        self.look_now.set()

    def ask_others(self) -> None:
        for task, may_go in list(self.tries.items()):
            if task is not asyncio.current_task() and may_go():  # who found out asks another by itself
                task.cancel()

    def is_ready(self, model: str) -> None:
        """It was looked at and found well."""
        if not self.is_up:
            event(log, "endpoint.ready", at=self.shown, model=model)
        self.is_up = self.was_up = True
        self.model, self.trouble, self._in_a_row = model, None, 0

    def is_not_ready(self, trouble: Trouble) -> None:
        """It was looked at while it was away."""
        if self.trouble is None or trouble.sentence != self.trouble.sentence:
            log.info("%s", trouble.sentence)
        self.trouble = trouble
