"""The fake engine: a limited number of running requests, a queue before them, and tokens that come with time.

Tokens are not made one by one: how many a request has is a function of its start and the clock, so that
thousands of slow requests cost nothing while the metrics page still moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable


@dataclasses.dataclass(eq=False)
class Job:
    """A request in the engine: `tokens` is the length of its longest choice, `width` how many it has: each takes a slot."""

    prompt_tokens: int
    tokens: int
    prefill_sec: float
    seconds_per_token: float
    width: int = 1
    started: float = 0.0

    def due(self, position: int) -> float:
        """When token number `position` (from 1) is out."""
        return self.started + self.prefill_sec + position * self.seconds_per_token

    def done(self, now: float) -> int:
        """How many token positions are out."""
        if now < self.started + self.prefill_sec:
            return 0
        if not self.seconds_per_token:
            return self.tokens
        elapsed = (now - self.started - self.prefill_sec) / self.seconds_per_token
        return min(self.tokens, int(elapsed + 1e-3))  # a timer may wake a hair early


class Engine:
    """Slots for `limit` running choices; the rest wait, first come first served. vLLM counts choices, not requests: it
    makes a sequence of its own of each. Unlike there all choices of a request begin together.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.clock = clock
        self.jobs: set[Job] = set()
        self.running = 0
        self.ended: Counter[str] = Counter()
        self._waiting: deque[tuple[asyncio.Future[None], Job]] = deque()
        self._prompt_tokens = 0
        self._generated = 0

    @property
    def waiting(self) -> int:
        return sum(job.width for _, job in self._waiting)

    @property
    def busy(self) -> bool:
        return bool(self.jobs or self._waiting)

    @property
    def prompt_tokens(self) -> int:
        return self._prompt_tokens

    def generated(self) -> int:
        """All tokens so far, those of running jobs included. Never goes down."""
        now = self.clock()
        return self._generated + sum(job.done(now) * job.width for job in self.jobs)

    @contextlib.asynccontextmanager
    async def slot(self, job: Job) -> AsyncIterator[None]:
        """Wait for a slot and hold it for `job`; it is given back however the block ends."""
        if self._has_room(job) and not self._waiting:
            self._start(job)
        else:
            await self._wait(job)
        try:
            yield
        finally:
            self._leave(job)

    async def until(self, moment: float) -> None:
        """Sleep until the engine's clock says `moment`."""
        left = moment - self.clock()
        if left > 0:
            await asyncio.sleep(left)

    async def _wait(self, job: Job) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, job))
        try:
            await turn
        except asyncio.CancelledError:
            if job in self.jobs:  # the slot was handed over in the same turn of the loop
                self._leave(job)
            elif (turn, job) in self._waiting:
                self._waiting.remove((turn, job))
            raise

    def _start(self, job: Job) -> None:
        job.started = self.clock()
        self._prompt_tokens += job.prompt_tokens * job.width
        self.jobs.add(job)
        self.running += job.width

    def _has_room(self, job: Job) -> bool:
        return not self.jobs or self.running + job.width <= self.limit

    def _leave(self, job: Job) -> None:
        self.jobs.remove(job)
        self.running -= job.width
        self._generated += job.done(self.clock()) * job.width
        while self._waiting and self._has_room(self._waiting[0][1]):
            turn, following = self._waiting.popleft()
            if not turn.cancelled():
                self._start(following)
                turn.set_result(None)
