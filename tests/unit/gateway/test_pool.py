"""Who goes next, and where: without a network, on a clock of the test."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nimdrum.engines.endpoints import EndpointUrl, GatewayConfig
from nimdrum.engines.plan import Bounds
from nimdrum.gateway.addresses import Addresses
from nimdrum.gateway.endpoint import FAILURES, Endpoint
from nimdrum.gateway.pace import Told
from nimdrum.gateway.pool import Pool, Ticket, prefix_of
from nimdrum.gateway.trouble import Trouble

WINDOW = Bounds(start=4, blind=4, free=4, ceiling=4)
DEADLINE_SEC = 20.0
GONE, BAD = Trouble("gone", gone=True), Trouble("503")


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), DEADLINE_SEC))


def endpoint(name: str, ready: bool = True, clock: Callable[[], float] = time.monotonic) -> Endpoint:
    """One of which an answer came just now, so that its window is open."""
    url = EndpointUrl(f"http://{name}")
    made = Endpoint(url, GatewayConfig((url,), bounds=WINDOW), None, clock=clock)  # type: ignore[arg-type]
    if ready:
        made.is_ready("m")
        made.has_answered(made.enter(), Told(), None)
        made.leave()
    return made


def test_requests_go_to_the_least_loaded_and_wait_in_order() -> None:
    """Two endpoints of four places: eight go, four each; the ninth and tenth wait, and go in their order."""

    async def test() -> None:
        pool = Pool([endpoint("a"), endpoint("b")])
        placed = [await pool.place(Ticket()) for _ in range(8)]
        assert Counter(each.shown for each, _ in placed) == {"http://a": 4, "http://b": 4}
        ninth, tenth = (asyncio.ensure_future(pool.place(Ticket())) for _ in range(2))
        again = asyncio.ensure_future(pool.place(Ticket(), again=True))
        await asyncio.sleep(0)
        assert pool.waiting == 3
        for waiter in (again, ninth, tenth):
            pool.leave(placed.pop()[0])
            await waiter
        assert pool.waiting == 0

    run(test)


def test_a_quick_one_gets_more_than_a_slow_one() -> None:
    """Of four requests at a time, by what their answers take."""

    async def test() -> None:
        quick, slow = endpoint("quick"), endpoint("slow")
        quick.seconds, slow.seconds = 1.0, 3.0
        pool = Pool([slow, quick])
        placed = [await pool.place(Ticket()) for _ in range(4)]
        assert Counter(each.shown for each, _ in placed) == {"http://quick": 3, "http://slow": 1}

    run(test)


def test_one_that_failed_is_asked_last() -> None:
    """A request does not come back to where it failed while another has a place."""

    async def test() -> None:
        first, second = endpoint("a"), endpoint("b")
        pool = Pool([first, second])
        assert (await pool.place(Ticket(tried={first})))[0] is second
        assert (await pool.place(Ticket(tried={first, second})))[0] in (first, second)

    run(test)


def test_a_caller_that_goes_away_gives_its_turn_up() -> None:
    """Waiting or just placed: no place is lost."""

    async def test() -> None:
        pool = Pool([endpoint("a")])
        placed = [await pool.place(Ticket()) for _ in range(4)]
        gone, stays = (asyncio.ensure_future(pool.place(Ticket())) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        pool.leave(placed[0][0])
        await stays
        assert (pool.waiting, pool.endpoints[0].window.in_flight) == (0, 4)

    run(test)


def test_like_prompts_stay_together() -> None:
    """Where that is wanted: the same prefix goes to the same endpoint, different ones are spread."""

    async def test() -> None:
        pool = Pool([endpoint(name) for name in "abcd"])
        seen: dict[bytes, set[str]] = {}
        for i in range(60):
            prefix = b"prefix %d" % (i % 20)
            place, _ = await pool.place(Ticket(prefix))
            seen.setdefault(prefix, set()).add(place.shown)
            pool.leave(place)
        assert all(len(places) == 1 for places in seen.values())
        assert len(set.union(*seen.values())) >= 3

    run(test)


def test_the_prefix_is_that_of_the_messages() -> None:
    """Whatever stands before them in the body."""
    body = b'{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Once upon"}]}'
    assert prefix_of(body, 12) == b' [{"role": "'
    assert prefix_of(body, 0) == prefix_of(b"{}", 12) == prefix_of(None, 12) == b""


def test_what_fails_in_a_row_is_set_aside_and_comes_back_on_trial() -> None:
    """One failure is its request's; three in a row are the endpoint's. Back, it gets one at a time until one is answered."""

    async def test() -> None:
        one = endpoint("a")
        one.has_failed(BAD)
        assert one.is_up
        one.has_answered(one.enter(), Told(), 1.0)
        one.leave()
        for _ in range(FAILURES):
            one.has_failed(BAD)
        assert not one.is_up
        assert one.wait_sec() is None
        one.is_ready("m")
        assert one.wait_sec() is not None
        sent_at = one.enter()
        assert one.wait_sec() is None
        one.has_answered(sent_at, Told(), 1.0)
        assert one.wait_sec() is not None

    run(test)


def test_pauses_grow_while_it_stays_away() -> None:
    """From a quarter of a second to half a minute; its places are kept for the first minute."""
    now = [0.0]

    async def test() -> None:
        one = endpoint("a", clock=lambda: now[0])
        assert one.kept_places == 0
        one.set_aside(GONE)
        seen = {}
        for now[0] in (0.0, 5.0, 50.0, 5000.0):
            one.is_not_ready(GONE)
            seen[now[0]] = (one.pause_sec, one.kept_places)
        assert seen == {0.0: (0.25, 4), 5.0: (0.5, 4), 50.0: (5.0, 4), 5000.0: (30.0, 0)}
        one.is_ready("m")
        one.has_answered(one.enter(), Told(), 1.0)
        assert (one.pause_sec, one.kept_places) == (0.25, 0)

    run(test)


def test_who_waits_for_one_that_has_gone_asks_another() -> None:
    """But not who got a byte already."""

    async def test() -> None:
        one = endpoint("a")
        may, may_not = (asyncio.ensure_future(asyncio.sleep(DEADLINE_SEC)) for _ in range(2))
        one.tries |= {may: lambda: True, may_not: lambda: False}
        one.set_aside(GONE)
        await asyncio.wait([may])
        assert may.cancelled()
        assert not may_not.done()
        may_not.cancel()

    run(test)


def test_addresses_are_followed() -> None:
    """One that a look misses stays; one that three looks miss goes; a name that is not known changes nothing."""
    answers: list[Any] = [{"1", "2"}, {"1"}, OSError("no"), {"1", "2"}, {"1"}, {"1"}, {"1", "3"}]
    log: list[str] = []

    async def test() -> None:
        async def resolve(host: str) -> set[str]:
            assert host == "name"
            if not answers:
                raise asyncio.CancelledError
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            found: set[str] = answer
            return found

        def add(url: EndpointUrl, address: str | None) -> Endpoint:
            log.append(f"+{address}")
            return endpoint(str(address), ready=False)

        url = EndpointUrl("http://name", each_address=True)
        with pytest.raises(asyncio.CancelledError):
            await Addresses(url, add, lambda gone: log.append(f"-{gone.shown}"), resolve, every_sec=0.0).follow()

    run(test)
    assert sorted(log[:2]) == ["+1", "+2"]
    assert sorted(log[2:]) == ["+3", "-http://2"]
