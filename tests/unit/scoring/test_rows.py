"""`run_rows`: many rows at once, in order, with one that goes first, and no thread that outlives an error.

Nothing here depends on time: senders meet at barriers, and what must never happen is noted when it does.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.scoring.answer import Completion
from nimdrum.scoring.row import Result
from nimdrum.scoring.rows import run_rows
from nimdrum.scoring.window import Window

DEADLINE_SEC = 30.0


def answer(prompt: str) -> Result:
    return Completion((prompt,), "stop", 1, 1)


def nothing(*_: Any) -> None:
    """For callbacks that a test has no use for."""


def run(
    prompts: list[str],
    send: Callable[[str], Result] = answer,
    window: Window | None = None,
    stopped: threading.Event | None = None,
    done: Callable[[Result], None] = nothing,
    tick: Callable[[], None] = nothing,
) -> list[str]:
    """The first text of each result."""
    results = run_rows(prompts, send, window or Window(4), stopped or threading.Event(), done, tick)
    return [result.texts[0] for result in results if isinstance(result, Completion)]


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """After each test: all threads that sent rows end by themselves."""
    yield
    for thread in threading.enumerate():
        if thread.name == "nimdrum-row":
            thread.join(DEADLINE_SEC)
            assert not thread.is_alive()


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_container_that_allows_few_threads(limit: int) -> None:
    """The threads that there are send all rows; only without a single one the call fails."""
    started: list[threading.Thread] = []

    def spawn(work: Callable[[], None]) -> None:
        if len(started) == limit:
            raise RuntimeError("can't start new thread")
        started.append(threading.Thread(target=work, name="nimdrum-row", daemon=True))
        started[-1].start()

    prompts = [str(i) for i in range(50)]
    call = (prompts, answer, Window(16), threading.Event(), nothing, nothing, spawn)
    if limit == 0:
        with pytest.raises(RuntimeError, match="new thread"):
            run_rows(*call)
    else:
        assert [result.texts[0] for result in run_rows(*call) if isinstance(result, Completion)] == prompts
        assert len(started) == limit


class Gauge:
    """Counts who is inside `send`, and the most that ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=3), max_size=12), st.integers(1, 6))
def test_results_are_in_the_order_of_the_rows(prompts: list[str], size: int) -> None:
    """However many are in flight; each is told once."""
    told: list[Result] = []
    window = Window(size)
    assert run(prompts, window=window, done=told.append) == prompts
    assert sorted(result.texts[0] for result in told if isinstance(result, Completion)) == sorted(prompts)
    assert window.in_flight == 0


def test_order_is_kept_when_later_rows_are_faster() -> None:
    """The second row is answered last of all."""
    prompts = [str(i) for i in range(8)]
    left = set(prompts) - {"1"}
    all_but_one = threading.Event()

    def send(prompt: str) -> Result:
        if prompt == "1":
            assert all_but_one.wait(DEADLINE_SEC)
        left.discard(prompt)
        if not left:
            all_but_one.set()
        return answer(prompt)

    assert run(prompts, send) == prompts


def test_one_goes_first_then_the_crowd() -> None:
    """While the first row is with the engine no other is sent; after it a whole window is, at the same time."""
    size = 4
    first_done = threading.Event()
    early: list[str] = []
    crowd = threading.Barrier(size)

    def send(prompt: str) -> Result:
        if prompt == "0":
            first_done.set()
        elif not first_done.is_set():
            early.append(prompt)
        else:
            crowd.wait(DEADLINE_SEC)
        return answer(prompt)

    prompts = [str(i) for i in range(1 + 3 * size)]
    assert run(prompts, send, Window(size)) == prompts
    assert early == []


@pytest.mark.parametrize("size", [1, 2, 5])
def test_never_more_than_the_window_are_in_flight(size: int) -> None:
    """With many more rows than places."""
    gauge = Gauge()
    window = Window(size)

    def send(prompt: str) -> Result:
        with gauge:
            assert window.in_flight <= size
            return answer(prompt)

    run([str(i) for i in range(60)], send, window)
    assert 1 <= gauge.most <= size
    assert window.in_flight == 0


def test_calls_share_a_window() -> None:
    """Two calls at once have no more places than one."""
    gauge = Gauge()
    window = Window(2)
    answers: list[list[str]] = []

    def send(prompt: str) -> Result:
        with gauge:
            return answer(prompt)

    prompts = [str(i) for i in range(30)]
    calls = [threading.Thread(target=lambda: answers.append(run(prompts, send, window)), daemon=True) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join(DEADLINE_SEC)
    assert answers == [prompts, prompts]
    assert gauge.most <= 2


def test_no_rows_are_no_work() -> None:
    """And no error."""
    assert run([]) == []


@pytest.mark.parametrize("bad", [0, 1, 5], ids=["the first row", "the second", "a later one"])
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_send_raises_is_raised(bad: int, error: type[BaseException]) -> None:
    """In the calling thread; the others are stopped, and no place in the window is lost."""
    window, stopped = Window(3), threading.Event()

    def send(prompt: str) -> Result:
        if prompt == str(bad):
            raise error("mine")
        return answer(prompt)

    with pytest.raises(error, match="mine"):
        run([str(i) for i in range(6)], send, window, stopped)
    assert stopped.is_set()
    for thread in threading.enumerate():
        if thread.name == "nimdrum-row":
            thread.join(DEADLINE_SEC)
    assert window.in_flight == 0


@pytest.mark.parametrize("where", ["done", "tick"])
def test_an_interrupted_caller_stops_the_threads(where: str) -> None:
    """Ctrl-C in the calling thread: rows that were not sent are not sent any more."""
    stopped = threading.Event()
    sent: list[str] = []

    def send(prompt: str) -> Result:
        if prompt != "0":
            assert stopped.wait(DEADLINE_SEC)
        sent.append(prompt)
        return answer(prompt)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([str(i) for i in range(100)], send, Window(2), stopped, **{where: interrupt})
    assert stopped.is_set()
    for thread in threading.enumerate():
        if thread.name == "nimdrum-row":
            thread.join(DEADLINE_SEC)
    assert len(sent) <= 3


def test_callbacks_come_in_the_calling_thread() -> None:
    """So that progress needs no lock."""
    mine = threading.get_ident()
    seen: set[int] = set()
    run(
        ["a", "b", "c"],
        done=lambda result: seen.add(threading.get_ident()),
        tick=lambda: seen.add(threading.get_ident()),
    )
    assert seen == {mine}


def test_ticks_come_while_rows_are_in_flight() -> None:
    """The first row waits for two of them: a tick needs no result."""
    ticks = threading.Semaphore(0)

    def send(prompt: str) -> Result:
        assert ticks.acquire(timeout=DEADLINE_SEC)
        assert ticks.acquire(timeout=DEADLINE_SEC)
        return answer(prompt)

    assert run(["a"], send, tick=ticks.release) == ["a"]
