"""Many rows at once, in threads (which gevent turns into greenlets), results in the order of the rows."""

import threading
from collections.abc import Callable, Sequence

from nimdrum.scoring.row import Result
from nimdrum.scoring.window import Window

WAKE_SEC = 0.5
PLACE_WAIT_SEC = 1.0


def run_rows(
    prompts: Sequence[str],
    send: Callable[[str], Result],
    window: Window,
    stopped: threading.Event,
    done: Callable[[Result], None],
    tick: Callable[[], None],
) -> list[Result]:
    """`send` every prompt, at most `window` at a time; one goes first, then the crowd.

    `done` is told each result and `tick` is called about twice a second, both in the calling thread. When the
    calling thread is interrupted, `stopped` is set and the threads end with the request that they are in.
    Raises what `send` raised, if it did.
    """
    crowd = _Crowd(prompts, send, window, stopped)
    told = 0
    try:
        crowd.grow(1)
        while told < len(prompts):
            for result in crowd.wait_for_results(WAKE_SEC):
                if told == 0:
                    crowd.grow(min(window.size, len(prompts)) - 1)
                told += 1
                done(result)
            tick()
    finally:
        stopped.set()
    return crowd.results()


class _Crowd:
    """The threads of one call and what they share."""

    def __init__(
        self, prompts: Sequence[str], send: Callable[[str], Result], window: Window, stopped: threading.Event
    ) -> None:
        self._prompts = prompts
        self._send = send
        self._window = window
        self._stopped = stopped
        self._changed = threading.Condition()
        self._next = 0
        self._fresh: list[Result] = []
        self._results: list[Result | None] = [None] * len(prompts)
        self._error: BaseException | None = None

    def grow(self, count: int) -> None:
        for _ in range(count):
            # Daemons, because a thread that waits for the engine must not keep the process from ending.
            threading.Thread(target=self._work, name="nimdrum-row", daemon=True).start()

    def wait_for_results(self, timeout_sec: float) -> list[Result]:
        with self._changed:
            self._changed.wait_for(lambda: self._fresh or self._error, timeout_sec)
            if self._error:
                raise self._error
            fresh, self._fresh = self._fresh, []
            return fresh

    def results(self) -> list[Result]:
        return [result for result in self._results if result is not None]

    def _work(self) -> None:
        try:
            while (index := self._take()) is not None:
                try:
                    result = self._send(self._prompts[index])
                finally:
                    self._window.leave()
                with self._changed:
                    self._results[index] = result
                    self._fresh.append(result)
                    self._changed.notify()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify()

    def _take(self) -> int | None:
        """The next row and a place in the window for it, or None when there are no more rows."""
        while not self._stopped.is_set() and self._next < len(self._prompts):
            if self._window.enter(PLACE_WAIT_SEC):
                with self._changed:
                    if self._next < len(self._prompts):
                        self._next += 1
                        return self._next - 1
                self._window.leave()
        return None
