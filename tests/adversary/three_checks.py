"""The rule for every case: rows in order and each its own, the next caller's too, and nothing kept behind."""

import contextlib
import gc
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from adversary_cases import ANSWERED, EITHER, Case
from fake_nim.run import wait_for

ROWS = 12
SETTLE_SEC = 30.0
MOST_MEMORY = 128 << 20  # the allocator keeps what an answer without an end took until it was given up
MOST_SEC, MOST_FOR_A_BODY = 0.1, 20 << 20
TRIES, YARDSTICK_SEC = 10, 0.005

Score = Callable[[list[str]], pd.DataFrame]
"""One caller's rows: prompts in, the frame of answers out."""


def rows_of(case: Case) -> list[str]:
    """A third of the rows carries the case's mark."""
    return [f"<{case.mark}> row {i}" if i % 3 == 1 else f"row {i} beside {case.mark}" for i in range(ROWS)]


def check_rows(case: Case, score: Score) -> None:
    """One row out for each row in, in order, each its own; then the same for the next caller."""
    prompts = rows_of(case)
    answers = score(prompts)
    assert len(answers) == len(prompts)
    for prompt, text, error in zip(prompts, answers["resultText"], answers["row_error"], strict=True):
        expected = case.row if prompt.startswith("<") else ANSWERED
        kind = str(error).partition(":")[0] or ANSWERED
        assert text in ("", f"echo: {prompt}"), f"{prompt!r} was answered {text!r}"
        assert expected in (kind, EITHER), f"{prompt!r}: {error or text}"
        assert bool(text) == (kind == ANSWERED)
    check_next(case.mark, score)


def check_next(name: str, score: Score) -> None:
    prompts = [f"row {i} after {name}" for i in range(ROWS)]
    answers = score(prompts)
    assert answers["resultText"].tolist() == [f"echo: {prompt}" for prompt in prompts], answers["row_error"].tolist()


@dataclass(frozen=True)
class Held:
    """What processes hold: descriptors, threads, bytes of memory."""

    descriptors: int
    threads: int
    memory: int

    def is_within(self, before: "Held") -> bool:
        return (
            self.descriptors <= before.descriptors
            and self.threads <= before.threads
            and self.memory <= before.memory + MOST_MEMORY
        )


def with_connections(held: Held, open_now: int, most: int) -> Held:
    """`held` where all connections to the engine are open that may be: how many a first call needs is chance."""
    return replace(held, descriptors=held.descriptors - open_now + most)


def held_by(pids: Callable[[], list[int]]) -> Held:
    """The sum over some processes; one that ends meanwhile counts nothing."""
    total = [0, 0, 0]
    for pid in pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            seen = (process.num_fds(), process.num_threads(), process.memory_info().rss)
            total = [old + new for old, new in zip(total, seen, strict=True)]
    return Held(*total)


def held_here(engine: Any) -> Held:
    """This process, without the engine that runs in it."""
    gc.collect()
    threads = sum(not thread.name.startswith("rude") for thread in threading.enumerate())
    descriptors = len(list(Path("/proc/self/fd").iterdir())) - engine.connections
    return Held(descriptors, threads, psutil.Process().memory_info().rss)


def check_held(before: Held, now: Callable[[], Held]) -> None:
    """Nothing is kept; what takes a moment to go (an idle connection, a thread that ends) gets it."""
    seen = [now()]

    def is_within() -> bool:
        seen[0] = now()
        return seen[0].is_within(before)

    with contextlib.suppress(TimeoutError):
        wait_for(is_within, SETTLE_SEC)
    assert seen[0].is_within(before), f"before {before}, now {seen[0]}; this process holds {_descriptors()}"


def _descriptors() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(link.readlink()))
    return found


def _seconds_of(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _yardstick() -> None:
    """Takes YARDSTICK_SEC where nothing else runs; on a busy machine CPU time has been seen to be ten times as long."""
    some: dict[str, list[int]] = {}
    for number in range(20_000):
        some[str(number)] = [number]


def check_cost(what: str, read: Callable[[], Any]) -> Any:
    """What is read. Fails when it takes more than a small body may: memory, and CPU time of this thread alone, of which
    the best of TRIES counts, without the garbage collector: its time is that of all that lives in a process of tests.
    """
    best = float("inf")
    gc.disable()
    try:
        for _ in range(TRIES):
            slowness = max(1.0, _seconds_of(_yardstick) / YARDSTICK_SEC)
            if (best := min(best, _seconds_of(read) / slowness)) < MOST_SEC:
                break
    finally:
        gc.enable()
    assert best < MOST_SEC, f"{what} took {best:.3f} s"
    tracemalloc.start()
    try:
        result = read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_FOR_A_BODY, f"{what} took {peak >> 20} MB"
    return result
