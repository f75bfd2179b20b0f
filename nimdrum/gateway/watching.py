"""Looks at one endpoint again and again: is it ready, what does its metrics page say. Two tasks for each.

An endpoint that works is looked at as seldom as its way of being ready allows, since looks may count against a limit;
one that was set aside is looked at with growing pauses, and gets nothing else.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus

import aiohttp

from nimdrum.base.log import get_logger
from nimdrum.engines.endpoints import GatewayConfig
from nimdrum.engines.work import KNOWN, Work, find_page
from nimdrum.gateway.answers import whole_body
from nimdrum.gateway.endpoint import REFUSAL_SEC, Endpoint
from nimdrum.gateway.ready import Expected, How, Seen, look, still_there
from nimdrum.gateway.trouble import Trouble

CALM_SEC = {How.HEALTH: 5.0, How.MODELS: 60.0, How.TOKEN: 600.0}
BAD_LOOKS = 2
PAGE_SEC = 5.0
MISSES = 3
"""An endpoint that answers, but shows no queue after so many looks, has no page that tells of it."""
BLIND_SEC = 1.0
NOTHING = Work(None, None, None)

log = get_logger("gateway")


class Watching:
    """Keeps what is known of `endpoint` true."""

    def __init__(
        self,
        endpoint: Endpoint,
        config: GatewayConfig,
        model: Callable[[], str | None],
        seen: Callable[[Endpoint, Seen], None],
        changed: Callable[[], None],
    ) -> None:
        """`model` gives what callers call the model, once that is known; `seen` gets each look at one that was away;
        `changed` is called when requests may go that could not before."""
        self._endpoint = endpoint
        self._asked = Expected(endpoint.url, endpoint.shown, config.health_path, config.model, config.has_credential)
        self._stall_sec = config.stall_timeout_sec
        self._model = model
        self._seen = seen
        self._changed = changed
        self._how = How.HEALTH

    async def health(self) -> None:
        """Without end."""
        while True:
            self._endpoint.look_now.clear()  # what happens while it is looked at is looked at next
            pause = await (self._look_at_working() if self._endpoint.is_up else self._look_at_away())
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._endpoint.look_now.wait(), pause)
                if not self._endpoint.is_up:  # it was just set aside: give it a moment
                    await asyncio.sleep(self._endpoint.pause_sec)

    async def _look_at_away(self) -> float:
        endpoint = self._endpoint
        began = time.monotonic()
        seen = await look(replace(self._asked, model=self._model()), endpoint.outgoing)
        if seen.trouble is None and seen.model is not None:
            self._how = seen.how
            self._asked = replace(self._asked, check_key=False)
            if endpoint.pace.doubt_sec:
                endpoint.pace.doubt_sec = min(1.0, REFUSAL_SEC + 2 * (time.monotonic() - began) / 3)
            self._seen(endpoint, seen)
            if endpoint.is_up:
                self._changed()
                return CALM_SEC[self._how]
        else:
            endpoint.is_not_ready(seen.trouble or Trouble(f"{endpoint.shown} is not ready."))
            self._seen(endpoint, seen)
        return endpoint.pause_sec

    async def _look_at_working(self) -> float:
        """One failed look proves little: a busy engine's health route may be late. Answers prove more."""
        endpoint = self._endpoint
        for _ in range(BAD_LOOKS):
            answered = endpoint.answered
            if self._how is How.TOKEN:
                return CALM_SEC[self._how]
            trouble = await still_there(self._asked, endpoint.outgoing, self._how)
            if trouble is None or not endpoint.is_up or endpoint.answered > answered:
                return CALM_SEC[self._how]
        endpoint.set_aside(trouble or Trouble(f"{endpoint.shown} is not well."))
        self._changed()
        return endpoint.pause_sec

    async def metrics(self) -> None:
        """Moves the window, without end, while there are requests."""
        endpoint, window = self._endpoint, self._endpoint.window
        path: str | None = None
        misses, pause, moved_at, progress = 0, 0.0, time.monotonic(), (0.0, 0)
        while True:
            if not endpoint.busy.is_set():
                await endpoint.busy.wait()
                moved_at = time.monotonic()
            began, was_full = time.monotonic(), window.was_full
            page = await self._page(path) if endpoint.is_up and misses < MISSES else (None, NOTHING)
            path, work = page
            shows = work.waiting is not None
            if shows:  # an engine, and no service with a limit
                endpoint.pace.doubt_sec = 0.0
            misses = 0 if shows else misses + endpoint.is_up * (not window.is_sighted)
            endpoint.running, endpoint.waiting = work.running, work.waiting
            moved = window.look(work.running, work.waiting)
            now = time.monotonic()
            if shows:
                pause = window.pause_sec(moved, now - began, pause, was_full)
            else:
                pause = BLIND_SEC
            if (seen := (work.progress or 0.0, endpoint.answered)) != progress or not shows:
                moved_at, progress = now, seen
            elif endpoint.is_up and now - moved_at >= self._stall_sec:
                endpoint.set_aside(
                    Trouble(f"{endpoint.shown} has work, but made no token for {self._stall_sec:g} s.", gone=True)
                )
            self._changed()
            await asyncio.sleep(pause)

    async def _page(self, path: str | None) -> tuple[str | None, Work]:
        bodies: dict[str, bytes] = {}
        for each in (path,) if path else KNOWN.paths:
            with suppress(aiohttp.ClientError, asyncio.TimeoutError, OSError):
                async with self._endpoint.outgoing.request("GET", each, timeout_sec=PAGE_SEC) as answer:
                    if answer.status == HTTPStatus.OK:
                        bodies[each] = (await whole_body(answer))[0]
        page = find_page(bodies.get, KNOWN, path)
        return (page.path, page.work) if page and page.work.waiting is not None else (path, NOTHING)
