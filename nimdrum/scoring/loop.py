"""The event loop in which a process sends all its rows: gevent's hub.

Under gunicorn's gevent workers it is the worker's own; everywhere else (`drum score`, werkzeug, gunicorn's sync
workers) a thread of its own carries one. No thread for each row: on sixteen cores the interpreter lock, which hops
between them, made those cost more than twice as much as on two (docs/decisions/0010).
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import gevent
from gevent import monkey

START_TIMEOUT_SEC = 30.0
NEVER_SEC = 86_400.0
POLL_SEC = 0.05

T = TypeVar("T")

_hubs: dict[int, Any] = {}
_starting = threading.Lock()


def name_of_loop() -> object:
    """Tells loops apart: what belongs to one must not be used in another. A forked process has one of its own."""
    return (os.getpid(), id(gevent.get_hub()) if _is_patched() else None)


def in_loop(work: Callable[[], object]) -> None:
    """Have `work` done in the loop, in a greenlet of its own, and return at once. From any thread."""
    if _is_patched():
        gevent.spawn(work)
    else:
        _hub().loop.run_callback_threadsafe(gevent.spawn, work)


def outside(work: Callable[[], T]) -> T:
    """The result of what waits as threads do, asked for by a greenlet of the loop, which goes on meanwhile."""
    if _is_patched():
        return work()  # its waits are gevent's
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="nimdrum-outside", daemon=True).start()
    while not future.done():
        gevent.sleep(POLL_SEC)
    return future.result()


def _is_patched() -> bool:
    return bool(monkey.is_module_patched("threading"))


def _hub() -> Any:
    hub = _hubs.get(os.getpid())
    if hub is None:
        with _starting:
            if os.getpid() not in _hubs:
                _hubs[os.getpid()] = _start_hub()  # the parent's stays: to take it down would disturb it over there
            hub = _hubs[os.getpid()]
    return hub


def _start_hub() -> Any:
    hubs: list[Any] = []
    started = threading.Event()

    def run() -> None:
        hubs.append(gevent.get_hub())
        started.set()
        while True:
            gevent.sleep(NEVER_SEC)

    threading.Thread(target=run, name="nimdrum-loop", daemon=True).start()
    if not started.wait(START_TIMEOUT_SEC):
        raise RuntimeError(f"The thread that sends the rows did not start within {START_TIMEOUT_SEC:g} s.")
    return hubs[0]
