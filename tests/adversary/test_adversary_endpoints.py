"""Endpoints that misbehave for minutes: a hosted one with a limit, and four of which one is slow, one dies, one is moody.

What they give and what of it is used is printed, since it is a matter of time. The figures of docs/external.md are of
    NIMDRUM_HOSTED_ROWS=160 NIMDRUM_MANY_ROWS=20000 pytest tests/adversary/test_adversary_endpoints.py -s
"""

import os
import threading
import time

import pytest
from edge_world import KEY, READY_SEC, World, no_key_is_printed, world  # noqa: F401 - fixtures
from elsewhere import Started, elsewhere
from fake_nim.run import wait_for
from test_gateway import CREDENTIAL, assert_all_answered, figures, frame_of, model_of

from nimdrum.scoring.score import score_frame

pytestmark = [pytest.mark.adversary, pytest.mark.timeout(1200)]
LIMIT, ROWS = 40, int(os.environ.get("NIMDRUM_HOSTED_ROWS", "60"))


def test_a_hosted_endpoint_is_driven_at_its_limit(world: World) -> None:  # noqa: F811
    """40 requests in a sliding minute, 202, nothing configured: next to none is refused, and no row fails."""
    with elsewhere(key=KEY, health=False, metrics=False, delayed=True, per_minute=LIMIT, seconds=1.0) as engine:
        model = model_of(world, engine, engine_credential=CREDENTIAL)
        model.ready(READY_SEC)
        began = time.monotonic()
        assert_all_answered(score_frame(frame_of(ROWS), model))
        minutes = (time.monotonic() - began) / 60
        record = engine.record()
        print(f"rows a minute: {ROWS / minutes:.1f} of {LIMIT}, refused {record['too many']} of {record['chats']}")
        assert record["too many"] <= 5 + 0.02 * ROWS


SECONDS, SLOTS, MANY = 0.25, 16, int(os.environ.get("NIMDRUM_MANY_ROWS", "6000"))
DOWN_EVERY_SEC, DOWN_SEC = 20.0, 5.0
BAD_EVERY_SEC, BAD_SEC = 15.0, 3.0


def test_four_endpoints_of_which_three_are_bad(world: World) -> None:  # noqa: F811
    """One four times slower, one killed and started again every 20 s, one with bursts of 503: each row is answered
    once, and hardly anything goes to the moody one in its bursts."""
    bursts = {"bad_every_sec": BAD_EVERY_SEC, "bad_sec": BAD_SEC}
    with (
        elsewhere(seconds=SECONDS, slots=SLOTS) as well,
        elsewhere(seconds=4 * SECONDS, slots=SLOTS) as slow,
        elsewhere(seconds=SECONDS, slots=SLOTS) as dying,
        elsewhere(seconds=SECONDS, slots=SLOTS, **bursts) as moody,
    ):
        model = model_of(world, well, slow, dying, moody)
        model.ready(READY_SEC)
        wait_for(lambda: set(figures(model, "up").values()) == {1}, READY_SEC)
        score_frame(frame_of(1000), model)  # the window has found its size
        before = {engine: engine.record()["answered"] for engine in (well, slow, moody)}
        over, down = threading.Event(), [0.0]
        killer = threading.Thread(target=_kill_again_and_again, args=(dying, over, down))
        killer.start()
        began = time.monotonic()
        out = score_frame(frame_of(MANY), model)
        seconds = time.monotonic() - began
        over.set()
        killer.join()
        assert_all_answered(out)
        one = SLOTS / SECONDS
        given = one * (1 + 1 / 4 + (1 - down[0] / seconds) + (1 - BAD_SEC / BAD_EVERY_SEC))
        record = moody.record()
        print(f"{MANY / seconds:.0f} rows/s of {given:.0f}; moody: {record['bad']} of {record['chats']} were 503;")
        print(
            {name: e.record()["answered"] - before[e] for name, e in (("well", well), ("slow", slow), ("moody", moody))}
        )
        assert record["bad"] < 0.5 * one * seconds * BAD_SEC / BAD_EVERY_SEC  # of what it would have been sent


def _kill_again_and_again(engine: Started, over: threading.Event, down: list[float]) -> None:
    """`down` gets the seconds for which it was not there."""
    while not over.wait(DOWN_EVERY_SEC - DOWN_SEC):
        killed_at = time.monotonic()
        engine.kill()
        over.wait(DOWN_SEC)
        engine.start_again()
        engine.wait()
        down[0] += time.monotonic() - killed_at
