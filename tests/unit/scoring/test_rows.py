"""Many rows at once: in order, never more than the window, in turns, and nothing under way after an error.

Nothing here depends on time: senders wait for one another, and what must never happen is noted when it does.
"""

import threading
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from fake_nim.run import wait_for
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.engines.plan import Bounds
from nimdrum.engines.window import Window
from nimdrum.scoring.answer import Completion
from nimdrum.scoring.loop import in_loop
from nimdrum.scoring.part import Part
from nimdrum.scoring.row import Result
from nimdrum.scoring.rows import FEW_ROWS, Call, Turns, run_rows

DEADLINE_SEC = 30.0


def answer(index: int) -> Result:
    return Completion((str(index),), "stop", 1, 1)


def nothing(*_: Any) -> None:
    """For callbacks that a test has no use for."""


def warm(size: Bounds | int) -> Window:
    """A window to an engine that has just answered."""
    window = Window(size)
    window.enter()
    window.leave()
    return window


def run(
    rows: int,
    send: Callable[[int], Result] = answer,
    turns: Turns | None = None,
    done: Callable[[int, Result], None] = nothing,
    tick: Callable[[], None] = nothing,
    deadline: float = float("inf"),
) -> list[int]:
    """The number of the row in each result."""
    turns = turns or Turns(warm(4))
    call = Call(rows, send, deadline)
    results = run_rows(call, lambda: turns.join(call), lambda: turns.part(call), in_loop, done, tick)
    wait_for(lambda: turns.window.in_flight == call.under_way == 0, DEADLINE_SEC)
    return [int(result.texts[0]) for result in results if isinstance(result, Completion)]


class Gauge:
    """Counts who is inside `send`, and the most that ever were."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    def __enter__(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 6))
def test_results_are_in_the_order_of_the_rows(rows: int, size: int) -> None:
    """However many are in flight; each is told once."""
    told: list[tuple[int, Result]] = []
    assert run(rows, turns=Turns(warm(size)), done=lambda *one: told.append(one)) == list(range(rows))
    assert {(str(row),) for row, _ in told} == {r.texts for _, r in told if isinstance(r, Completion)}
    assert len(told) == rows


def test_order_is_kept_when_later_rows_are_faster() -> None:
    """The second row is answered last of all."""
    left = set(range(8)) - {1}
    all_but_one = Event()

    def send(index: int) -> Result:
        if index == 1:
            assert all_but_one.wait(DEADLINE_SEC)
        left.discard(index)
        if not left:
            all_but_one.set()
        return answer(index)

    assert run(8, send) == list(range(8))


def test_one_goes_first_then_the_crowd() -> None:
    """While the first row is with the engine no other is sent; after it a whole window is, at the same time."""
    size, inside = 4, []
    crowd = Event()

    def send(index: int) -> Result:
        if index == 0:
            gevent.sleep(0)
            assert inside == []
        else:
            inside.append(index)
            if len(inside) == size:
                crowd.set()
            assert crowd.wait(DEADLINE_SEC)
        return answer(index)

    turns = Turns(Window(size, clock=lambda: 0.0))  # by the real one the crowd goes after 0.1 s too
    assert run(1 + 3 * size, send, turns) == list(range(1 + 3 * size))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_never_more_than_the_window_are_in_flight(size: int) -> None:
    """With many more rows than places."""
    gauge, window = Gauge(), warm(size)

    def send(index: int) -> Result:
        with gauge:
            gevent.sleep(0)
            assert window.in_flight <= size
            return answer(index)

    run(60, send, Turns(window))
    assert gauge.most == size


def test_calls_share_a_window() -> None:
    """Two calls at once have no more places than one, and each gets its own answers."""
    gauge, turns = Gauge(), Turns(warm(2))
    answers: list[list[int]] = []

    def send(index: int) -> Result:
        with gauge:
            gevent.sleep(0)
            return answer(index)

    def ask() -> None:
        call = Call(30, send)
        results = run_rows(call, lambda: turns.join(call), lambda: turns.part(call), in_loop, nothing, nothing)
        answers.append([int(result.texts[0]) for result in results if isinstance(result, Completion)])

    calls = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join(DEADLINE_SEC)
    assert answers == [list(range(30))] * 2
    assert gauge.most == 2


def in_turns(turns: Turns, *calls: Call) -> None:
    """Have all calls sent in this thread's loop, until the last one is done."""
    for call in calls:
        turns.join(call)
    while not all(call.finished.is_set() for call in calls):
        gevent.sleep(0)


def test_a_later_call_is_not_queued_behind_a_batch() -> None:
    """Two batches: once the second is there, their rows go alternately."""
    order: list[str] = []

    def sender(name: str) -> Callable[[int], Result]:
        def send(index: int) -> Result:
            order.append(name)
            gevent.sleep(0)
            return answer(index)

        return send

    in_turns(Turns(warm(1)), Call(100, sender("first")), Call(20, sender("second")))
    assert "".join(name[0] for name in order[2:42]) == "sf" * 20
    assert len(order) == 120


def test_a_small_call_has_a_place_beside_a_batch_that_fills_the_window() -> None:
    """It does not wait for a row of the batch, none of which ends before."""
    turns, small_is_done = Turns(warm(Bounds(8, 8, 8, 64))), Event()

    def slow(index: int) -> Result:
        assert small_is_done.wait(DEADLINE_SEC)
        return answer(index)

    def quick(index: int) -> Result:
        small_is_done.set()
        return answer(index)

    in_turns(turns, Call(FEW_ROWS + 1, slow), Call(1, quick))


def test_a_batch_keeps_to_its_share() -> None:
    """Of a window that has found its size; a small call may take the rest."""
    gauge = Gauge()

    def send(index: int) -> Result:
        with gauge:
            gevent.sleep(0)
            return answer(index)

    in_turns(Turns(warm(8), batch_share=0.25), Call(FEW_ROWS + 1, send))
    assert gauge.most == 2


def test_a_row_that_is_away_leaves_its_place_to_others() -> None:
    """The second row is sent while the first waits for a reason of its own; that one comes back when there is a place."""
    turns, second_is_in = Turns(warm(1)), Event()
    order: list[str] = []

    def first(index: int) -> Result:
        order.append("first")
        with turns.away(float("inf")):
            assert second_is_in.wait(DEADLINE_SEC)
        order.append("first again")
        return answer(index)

    def second(index: int) -> Result:
        second_is_in.set()
        for _ in range(5):
            gevent.sleep(0)
        order.append("second")
        return answer(index)

    in_turns(turns, Call(1, first), Call(1, second))
    assert order == ["first", "second", "first again"]
    assert turns.window.in_flight == 0


@pytest.mark.parametrize("error", [ValueError("mine"), None])
def test_a_row_comes_back_at_its_deadline_or_with_an_error_at_once(error: Exception | None) -> None:
    """Though the window is full: it comes only to end. No place is lost."""
    turns = Turns(warm(1))
    turns.window.enter()

    def row() -> None:
        with turns.away(0.0):
            turns.window.enter()  # another one, which stays
            if error:
                raise error

    if error:
        with pytest.raises(ValueError, match="mine"):
            row()
    else:
        row()
    assert turns.window.in_flight == 2


def test_a_row_that_is_killed_while_it_comes_back_loses_no_place() -> None:
    """Neither one that waits for a place nor one that has just been given one."""
    for has_place in (False, True):
        turns = Turns(warm(1))
        turns.window.enter()
        away = Event()

        def row(turns: Turns = turns, away: Event = away) -> None:
            with turns.away(float("inf")):
                turns.window.enter()
                away.set()
            raise AssertionError("it came back")

        greenlet = gevent.spawn(row)
        away.wait(DEADLINE_SEC)
        gevent.sleep(0)
        if has_place:
            turns.window.leave()
            turns.go()
        greenlet.kill(timeout=DEADLINE_SEC)
        assert turns.window.in_flight == (1 if has_place else 2)


def test_rows_end_at_the_deadline_of_their_call_also_in_a_full_window() -> None:
    """They do not ask anybody any more, so they need no place."""
    turns = Turns(warm(1))
    turns.window.enter()
    in_turns(turns, Call(50, answer, deadline=0.0))
    turns.window.leave()
    assert turns.window.in_flight == 0


@pytest.mark.parametrize("bad", [0, 1, 5], ids=["the first row", "the second", "a later one"])
def test_what_send_raises_is_raised(bad: int) -> None:
    """In the calling thread; the others are cut, and no place in the window is lost."""
    turns, cut = Turns(warm(3)), []

    def send(index: int) -> Result:
        if index == bad:
            raise ValueError("mine")
        if index > bad:
            try:
                gevent.sleep(DEADLINE_SEC)
            finally:
                cut.append(index)
        return answer(index)

    with pytest.raises(ValueError, match="mine"):
        run(6, send, turns)
    wait_for(lambda: turns.window.in_flight == 0, DEADLINE_SEC)  # the call may end a moment before they are cut
    assert len(cut) <= 3


def test_an_error_of_the_beginning_is_raised() -> None:
    """And nobody waits for rows that never began."""

    def begin() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run_rows(Call(1, answer), begin, nothing, in_loop, nothing, nothing)


@pytest.mark.parametrize("where", ["done", "tick"])
def test_an_interrupted_caller_cuts_the_rows(where: str) -> None:
    """Ctrl-C in the calling thread: rows under way end at once, and no other is sent."""
    sent: list[int] = []
    turns = Turns(warm(2))

    def send(index: int) -> Result:
        sent.append(index)
        if index:
            gevent.sleep(DEADLINE_SEC)
        return answer(index)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(100, send, turns, **{where: interrupt})  # type: ignore[arg-type]
    wait_for(lambda: turns.window.in_flight == 0, DEADLINE_SEC)  # the call may end a moment before they are cut
    assert len(sent) <= 3


def test_callbacks_come_in_the_calling_thread() -> None:
    """So that progress needs no lock."""
    mine = threading.get_ident()
    seen: set[int] = set()
    run(
        3,
        done=lambda row, result: seen.add(threading.get_ident()),
        tick=lambda: seen.add(threading.get_ident()),
    )
    assert seen == {mine}


def test_ticks_come_while_rows_are_in_flight() -> None:
    """The first row waits for two of them: a tick needs no result."""
    ticks, two = [], Event()

    def send(index: int) -> Result:
        assert two.wait(DEADLINE_SEC)
        return answer(index)

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            in_loop(two.set)

    assert run(1, send, tick=tick) == [0]


def test_a_row_that_is_cut_before_its_first_turn_gives_its_place_back() -> None:
    """A row that ends as its call is cut starts the next one, whose greenlet has not run yet when all are killed."""
    turns, ended = Turns(warm(4)), threading.Event()
    call = Call(4, answer)

    def begin_and_cut() -> None:
        turns.join(call)
        turns.part(call)
        call.cut()
        gevent.sleep(0)
        ended.set()

    in_loop(begin_and_cut)
    assert ended.wait(DEADLINE_SEC)
    assert turns.window.in_flight == 0
    assert call.results() == []


def test_parts_of_a_batch_begin_one_after_the_other() -> None:
    """No row of a later part goes before one of an earlier part, whichever came first; another call has its turns in
    between. Each part says when its last row has begun."""
    turns, begun, told = Turns(warm(2)), list[str](), list[str]()

    def call(name: str, rows: int, part: Part) -> Call:
        def send(_: int) -> Result:
            begun.append(name)
            gevent.sleep(0)
            return answer(0)

        return Call(rows, send, part=part)

    calls = [
        call("late", 4, Part(4, turns, begun=lambda: told.append("late"))),
        call("other", 4, Part()),
        call("early", 4, Part(0, turns, begun=lambda: told.append("early"))),
    ]

    def join() -> None:
        turns.window.enter()
        turns.window.enter()  # nobody goes before all are there
        for each in calls:
            turns.join(each)
        turns.window.leave()
        turns.window.leave()
        turns.go()

    in_loop(join)
    for each in calls:
        assert each.finished.wait(DEADLINE_SEC)
    assert told == ["early", "late"]
    assert [name for name in begun if name != "other"] == ["early"] * 4 + ["late"] * 4
    assert begun.index("other") < 2
