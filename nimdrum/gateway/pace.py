"""How many requests a minute an endpoint takes: told by its user, by its headers, or learned from its refusals (429).

A limit is a count over a minute (fixed or sliding) or a bucket that fills steadily. Requests that are spread evenly, a
little below the limit, are refused by none of them. So a first refusal gives an estimate, what was accepted in the
minute before it; from then on requests are spread. What makes the estimate sure: a pause that was asked for and is as
long as a count's, or a second refusal at the same count. While it is not sure it grows with each request, less after
each refusal. No clock of its own, no waiting.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MINUTE_SEC = 60.0
MARGIN = 0.98
"""Of the limit. With all of it the jitter of a network would make one request in a minute one too many."""
EDGE_SEC = 0.5
"""A count is looked at over a minute and this, for the same reason."""
DEFAULT_CLOSED_SEC = 1.0
LONGEST_CLOSED_SEC = 120.0
DOUBT_SHARE = 0.02
"""Until a limit is known, so many of all requests may be so young that a refusal could still be under way."""
FIRST_GROWTH = 0.15
LEAST_GROWTH = 0.02
ALIKE = 0.1
"""Two counts this near to each other are one limit."""
LONG_PAUSE = 1.5
"""A pause of so many times the mean time between requests is a count's, not a bucket's."""
LOOK_AGAIN = {True: (600.0, 1.05), False: (60.0, 1.25)}
"""After so many seconds without a refusal so much more is tried: where the limit is sure, and where it is not."""
LEAST_RATE = 1.0

PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Told:
    """What the headers of one answer say of a limit. None where they do not."""

    retry_after_sec: float | None = None
    remaining: int | None = None
    reset_sec: float | None = None


def read_headers(headers: Mapping[str, str]) -> Told:
    """From any mapping that does not care about the case of names. `x-ratelimit-*-requests` is OpenAI's and NVIDIA's
    spelling, `x-ratelimit-*` and `ratelimit-*` are others'. A date is not read. Pure."""

    def first(*names: str) -> str:
        return next((headers[name] for name in names if name in headers), "")

    remaining = first("x-ratelimit-remaining-requests", "x-ratelimit-remaining", "ratelimit-remaining")
    reset = seconds_of(first("x-ratelimit-reset-requests", "x-ratelimit-reset", "ratelimit-reset"))
    return Told(
        seconds_of(headers.get("Retry-After", "")),
        int(remaining) if remaining.isdecimal() and len(remaining) < 10 else None,
        reset if reset is not None and reset <= MINUTE_SEC else None,  # a longer one is a date, or a day's limit
    )


def seconds_of(text: str) -> float | None:
    """`7`, `0.5s`, `6m12s`. Pure."""
    text = text.strip()
    parts = list(PART.finditer(text))
    if not parts or len(text) > 40 or "".join(part[0] for part in parts) != text:
        return None
    return sum(float(part[1]) * UNITS[part[2] or "s"] for part in parts)


class Pace:
    """When the next request may go to one endpoint."""

    def __init__(self, per_minute: float, clock: Callable[[], float], doubt_sec: float = 0.0) -> None:
        """`per_minute` 0 is learned. With `doubt_sec`, the time in which a refusal comes, an endpoint of which nothing
        is known gets its first requests one by one, then ever faster: a burst would be refused as a whole."""
        self._clock = clock
        self.doubt_sec = doubt_sec
        self._given = per_minute > 0
        self.per_minute: float | None = per_minute or None
        """What is known; None where nothing was ever refused."""
        self._growth = 0.0
        self._sure = False
        self._counted = 0
        """What was accepted in the minute before the last refusal that counted."""
        self._sent = self._refused = 0
        self._times: deque[float] = deque()
        self._next_at = clock()
        self._closed_until = 0.0
        self._learned_at = clock()
        self._remaining: int | None = None
        self._reset_at = 0.0

    def wait_sec(self) -> float:
        """Seconds until one more may be sent; 0 when it may now."""
        now = self._clock()
        wait = max(0.0, self._closed_until - now)
        if self._remaining is not None:
            if now >= self._reset_at:
                self._remaining = None
            elif self._remaining <= 0:
                wait = max(wait, self._reset_at - now)
        if self.per_minute is not None:
            self._forget(now)
            wait = max(wait, self._next_at - now)
            most = max(1, int(self.per_minute))
            if len(self._times) >= most:
                wait = max(wait, self._times[-most] + MINUTE_SEC + EDGE_SEC - now)
        if self.doubt_sec and (self.per_minute is None or self._growth):
            may_be_young = max(1, int(DOUBT_SHARE * self._sent))
            if len(self._times) >= may_be_young:
                wait = max(wait, self._times[-may_be_young] + self.doubt_sec - now)
        return wait

    def sent(self) -> float:
        """One is sent now. Gives its time, by which `answered` and `refused` know it."""
        now = self._clock()
        self._sent += 1
        self._times.append(now)
        self._forget(now)
        if self._remaining is not None:
            self._remaining -= 1
        if self.per_minute is not None:
            step = MINUTE_SEC / (self.per_minute * MARGIN)
            self._next_at = max(self._next_at, now - step) + step
            if self._growth:
                self.per_minute *= 1 + self._growth
            elif not self._given and now - self._learned_at >= LOOK_AGAIN[self._sure][0]:
                self.per_minute, self._learned_at = self.per_minute * LOOK_AGAIN[self._sure][1], now
        return now

    def answered(self, sent_at: float, told: Told) -> None:
        """It was accepted. What it says of the rest counts less those that were sent after it."""
        if told.remaining is not None and told.reset_sec is not None:
            later = sum(1 for time in self._times if time > sent_at)
            now = self._clock()
            left = told.remaining - later
            if self._remaining is None or now >= self._reset_at or left < self._remaining:
                self._remaining, self._reset_at = left, now + told.reset_sec + EDGE_SEC

    def refused(self, sent_at: float, told: Told) -> None:
        """It was refused, for want of time."""
        now = self._clock()
        self._refused += 1
        pause = told.retry_after_sec if told.retry_after_sec is not None else told.reset_sec
        closed = min(DEFAULT_CLOSED_SEC if pause is None else pause, LONGEST_CLOSED_SEC)
        self._closed_until = max(self._closed_until, now + closed)
        if sent_at in self._times:
            self._times.remove(sent_at)
        if self._given or sent_at < self._learned_at:
            return  # nothing to learn, or from before the last lesson
        self._learn(now, pause)

    def _learn(self, now: float, pause: float | None) -> None:
        self._forget(now)
        accepted, known = max(len(self._times), 1), self.per_minute
        long_pause = pause is not None and pause >= LONG_PAUSE * MINUTE_SEC / accepted + 1
        alike = known is not None and abs(accepted - self._counted) <= ALIKE * self._counted
        whole = now - self._learned_at >= MINUTE_SEC
        self._counted, self._learned_at, self._next_at = accepted, now, max(self._next_at, now)
        if long_pause or whole or alike:
            self.per_minute = accepted if known is None else min(known, accepted)
            self._growth, self._sure = 0.0, True
        elif known is None:
            self.per_minute, self._growth = max(accepted, MINUTE_SEC / pause if pause else 0.0), FIRST_GROWTH
        else:
            self.per_minute, self._growth = max(LEAST_RATE, known * (1 - self._growth)), self._growth / 2
        if self._growth < LEAST_GROWTH:
            self._growth = 0.0

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] <= now - MINUTE_SEC - EDGE_SEC:
            self._times.popleft()
