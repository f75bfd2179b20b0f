"""A limit is learned, whatever kind it is: 95 % of it are used, and under 2 % refused. Servers and clock are made up."""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Protocol

import pytest

from nimdrum.gateway.pace import Pace, Told, read_headers, seconds_of

LIMIT = 40
LATENCY_SEC, IN_FLIGHT = 1.0, 32


class Server(Protocol):
    """Says of a request at a time whether it is accepted, how long to wait otherwise, and how many more may come."""

    def ask(self, now: float) -> tuple[bool, float, int, float]: ...


class Fixed:
    """So many in each minute of the clock."""

    def __init__(self, began: float = 0.0) -> None:
        self._began, self._minute, self._taken = began, -1, 0

    def ask(self, now: float) -> tuple[bool, float, int, float]:
        minute, second = divmod(now + self._began, 60)
        if minute != self._minute:
            self._minute, self._taken = int(minute), 0
        accepted = self._taken < LIMIT
        self._taken += accepted
        return accepted, 60 - second, LIMIT - self._taken, 60 - second


class Sliding:
    """So many in the last minute."""

    def __init__(self) -> None:
        self._taken: list[float] = []

    def ask(self, now: float) -> tuple[bool, float, int, float]:
        self._taken = [each for each in self._taken if each > now - 60]
        accepted = len(self._taken) < LIMIT
        if accepted:
            self._taken.append(now)
        wait = self._taken[0] + 60 - now
        return accepted, wait, LIMIT - len(self._taken), wait


class Bucket:
    """It fills steadily, and holds a minute's."""

    def __init__(self) -> None:
        self._level, self._at = float(LIMIT), 0.0

    def ask(self, now: float) -> tuple[bool, float, int, float]:
        self._level, self._at = min(LIMIT, self._level + (now - self._at) * LIMIT / 60), now
        if self._level >= 1:
            self._level -= 1
            return True, 0.0, int(self._level), (LIMIT - self._level) * 60 / LIMIT
        wait = (1 - self._level) * 60 / LIMIT
        return False, wait, 0, wait


def drive(server: Server, rows: int, retry_after: bool, headers: bool) -> tuple[float, float, Pace]:
    """Rows a minute and the share that was refused, with 32 in flight at most."""
    chance, now, order = random.Random(7), [0.0], itertools.count()
    pace = Pace(0, lambda: now[0], doubt_sec=0.1)
    events: list[tuple[float, int, Callable[[], None]]] = []
    left, flying, answered, refused = rows, 0, 0, 0

    def later(seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(events, (now[0] + seconds, next(order), what))

    def go() -> None:
        nonlocal left, flying
        while left and flying < IN_FLIGHT:
            if (wait := pace.wait_sec()) > 0:
                later(wait + 0.001, go)
                return
            sent_at = pace.sent()
            left, flying = left - 1, flying + 1
            later(chance.uniform(0.005, 0.03), lambda sent_at=sent_at: arrive(sent_at))

    def arrive(sent_at: float) -> None:
        accepted, wait, remaining, reset = server.ask(now[0])
        told = Told(None, remaining, reset) if headers else Told()
        if accepted:
            later(LATENCY_SEC * chance.uniform(0.7, 1.4), lambda: done(sent_at, told))
        else:
            later(
                0.03,
                lambda: no(sent_at, Told(math.ceil(wait) if retry_after else None, told.remaining, told.reset_sec)),
            )

    def done(sent_at: float, told: Told) -> None:
        nonlocal flying, answered
        flying, answered = flying - 1, answered + 1
        pace.answered(sent_at, told)
        go()

    def no(sent_at: float, told: Told) -> None:
        nonlocal flying, left, refused
        flying, left, refused = flying - 1, left + 1, refused + 1
        pace.refused(sent_at, told)
        go()

    go()
    while answered < rows:
        now[0], _, what = heapq.heappop(events)
        what()
    return rows / now[0] * 60, refused / rows, pace


SERVERS = {"fixed": Fixed, "fixed, begun late": lambda: Fixed(50), "sliding": Sliding, "bucket": Bucket}


@pytest.mark.parametrize("headers", [False, True], ids=["", "headers"])
@pytest.mark.parametrize("retry_after", [False, True], ids=["", "Retry-After"])
@pytest.mark.parametrize("make", SERVERS.values(), ids=SERVERS)
def test_a_limit_is_learned(make: Callable[[], Server], retry_after: bool, headers: bool) -> None:
    """In eight minutes, from nothing. Only a count that begins late and tells nothing costs more of the first minutes."""
    per_minute, share, _ = drive(make(), 8 * LIMIT, retry_after, headers)
    assert per_minute >= 0.95 * LIMIT
    assert share < (0.06 if make is SERVERS["fixed, begun late"] and not retry_after and not headers else 0.02)


def test_three_minutes_are_enough_with_retry_after() -> None:
    """The row of the issue: 95 % of the limit and under 2 % refused, while one burst of a minute is all that is known."""
    per_minute, share, _ = drive(Sliding(), 3 * LIMIT, retry_after=True, headers=False)
    assert per_minute >= 0.95 * LIMIT
    assert share < 0.02


def test_a_pace_that_is_told_is_kept() -> None:
    """Evenly, and a little below; nothing is learned."""
    now = [0.0]
    pace = Pace(60, lambda: now[0])
    sent = 0
    while now[0] < 600:
        if pace.wait_sec() <= 0:
            pace.sent()
            sent += 1
        now[0] += 0.01
    assert 0.95 * 600 <= sent <= 600
    pace.refused(pace.sent(), Told())
    assert pace.per_minute == 60


def test_without_a_key_nothing_is_held_back() -> None:
    """An engine of one's own has no limit, until it refuses."""
    pace = Pace(0, lambda: 0.0)
    for _ in range(1000):
        assert pace.wait_sec() == 0
        pace.sent()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0.5s", 0.5), ("6m12s", 372), ("120ms", 0.12), ("1h", 3600), ("", None), ("soon", None), ("1 s", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    """As OpenAI and others write them; what is no duration is nothing."""
    assert seconds_of(text) == seconds


def test_headers() -> None:
    """A reset that is a date, or a day away, is not one."""
    assert read_headers({"Retry-After": "3"}) == Told(3.0)
    told = {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "12s"}
    assert read_headers(told) == Told(None, 5, 12.0)
    assert read_headers({"ratelimit-remaining": "0", "ratelimit-reset": "1790000000"}) == Told(None, 0, None)
    assert read_headers({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}) == Told()
