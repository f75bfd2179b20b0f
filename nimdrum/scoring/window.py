"""How many rows are in flight at once, shared by all calls in this process."""

import os
import threading

AUTOMATIC = {"nim": 128, "external": 128, "llamacpp": 16}
"""Rows in flight while the number is fixed: an H100 with an 8B model is full at about 128; the embedded engine has
four slots for each core and a short queue behind them."""


def window_size(engine: str, max_concurrency: int) -> int:
    """The user's limit, or the one that fits the engine."""
    return max_concurrency or AUTOMATIC[engine]


class Window:
    """At most `size` holders at a time. A condition and not a semaphore, so that waiting can be given up."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_flight = 0
        self._free = threading.Condition()

    def enter(self, timeout_sec: float) -> bool:
        """Take a place; False when none was free within `timeout_sec`."""
        with self._free:
            if not self._free.wait_for(lambda: self.in_flight < self.size, timeout_sec):
                return False
            self.in_flight += 1
            return True

    def leave(self) -> None:
        with self._free:
            self.in_flight -= 1
            self._free.notify()


_windows: dict[int, Window] = {}


def shared_window(size: int) -> Window:
    """The window of this process. A forked child gets its own: a lock must not cross a fork."""
    window = _windows.get(os.getpid())
    if window is None or window.size != size:
        _windows.clear()
        window = _windows[os.getpid()] = Window(size)
    return window
