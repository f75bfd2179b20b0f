"""Who goes next, and where: requests wait here, in order, until some endpoint has a place. Used in one loop."""

import asyncio
import re
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from nimdrum.gateway.endpoint import Endpoint

TICK_SEC = 0.05
"""A place may also come with time alone (a window that was closed, a first row that is late)."""
MESSAGES = re.compile(rb'"(?:messages|prompt)"\s*:')


@dataclass(eq=False)
class Ticket:
    """One request on its way to an answer."""

    prefix: bytes = b""
    """Those with the same one go to the same endpoint, where that is wanted."""
    tried: set[Endpoint] = field(default_factory=set)
    """Where it failed: others come first."""
    failures: int = 0
    refusals: int = 0


def prefix_of(body: bytes | None, characters: int) -> bytes:
    """The first so many bytes of the messages; empty where there are none. Pure."""
    found = MESSAGES.search(body) if body and characters else None
    return body[found.end() : found.end() + characters] if body and found else b""


class Pool:
    """All endpoints, and all requests that have none yet."""

    def __init__(self, endpoints: Sequence[Endpoint] = ()) -> None:
        self.endpoints = list(endpoints)
        self._queue: deque[tuple[Ticket, asyncio.Future[tuple[Endpoint, float]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = 0
        """Requests that have no endpoint yet."""

    @property
    def up(self) -> list[Endpoint]:
        return [each for each in self.endpoints if each.is_up]

    async def place(self, ticket: Ticket, again: bool = False) -> tuple[Endpoint, float]:
        """An endpoint with a place, which is taken then, and the time by which its pace knows the request. With `again`
        the request was under way already, and is the next. Give the place back with `leave`."""
        future: asyncio.Future[tuple[Endpoint, float]] = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if again else self._queue.append)((ticket, future))
        self.waiting += 1
        self.go()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave(future.result()[0])
            raise
        finally:
            self.waiting -= 1

    def leave(self, endpoint: Endpoint) -> None:
        """A request gives its place back."""
        endpoint.leave()
        self.go()

    def go(self) -> None:
        """Send who may go now."""
        while self._queue:
            ticket, future = self._queue[0]
            if future.done():  # its caller has gone
                self._queue.popleft()
                continue
            endpoint, wait_sec = self._choose(ticket)
            if endpoint is None:
                self._again_in(wait_sec)
                return
            self._queue.popleft()
            future.set_result((endpoint, endpoint.enter()))

    def _again_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.go)

    def _choose(self, ticket: Ticket) -> tuple[Endpoint | None, float]:
        """An endpoint with a place, the best; or the seconds until it is worth to look again."""
        free: list[Endpoint] = []
        soonest = TICK_SEC
        for each in self.endpoints:
            wait_sec = each.wait_sec()
            if wait_sec is not None and wait_sec <= 0:
                free.append(each)
            elif wait_sec is not None:
                soonest = min(soonest, wait_sec)
        free = [each for each in free if each not in ticket.tried] or free
        if not free:
            return None, soonest
        # One of which nothing is known is as quick as the quickest.
        quickest = min((each.seconds for each in free if each.seconds), default=1.0)

        def load(each: Endpoint) -> float:
            return each.load or (each.window.in_flight + 1) / each.window.size * quickest

        if ticket.prefix:
            return max(free, key=lambda each: zlib.crc32(each.shown.encode() + b"\0" + ticket.prefix)), 0.0
        return min(free, key=load), 0.0
