"""What every step of an upload is given, and waiting for DataRobot: with a deadline, and where a person can see it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from datarobot.client import RESTClientObject

from nimdrum.base.errors import UploadError
from nimdrum.base.secret import Secret
from nimdrum.tools.upload.exit_codes import AGAIN, TRY_AGAIN
from nimdrum.tools.upload.wanted import Wanted

T = TypeVar("T")


class Screen(Protocol):
    """Where an upload tells what it does. Everything that is said goes through it, so that it can hide secrets."""

    def say(self, text: str) -> None:
        """One line."""

    def bytes(self, title: str, total: int | None) -> Callable[[int], object]:
        """Begins a progress bar, and gives the function that moves it by some bytes."""

    def waiting(self, what: str, state: str, elapsed_sec: float) -> None:
        """Shows that the wait for `what` goes on."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for DataRobot, and how often to ask."""

    max_wait_sec: float = 7200.0
    poll_sec: float = 5.0
    retries: int = 5
    """How often a reading request is repeated."""
    backoff_sec: float = 1.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def wait_until(
    what: str,
    look: Callable[[], T],
    state: Callable[[T], str],
    done: Callable[[T], bool],
    patience: Patience,
    screen: Screen,
) -> T:
    """Look until it is done, and return what was seen last. Raises UploadError after `max_wait_sec`."""
    begin = patience.clock()
    while True:
        seen = look()
        if done(seen):
            return seen
        elapsed = patience.clock() - begin
        screen.waiting(what, state(seen), elapsed)
        if elapsed >= patience.max_wait_sec:
            raise UploadError(
                f"Waited {elapsed:.0f} s for {what}, which is still {state(seen)!r}. It goes on in DataRobot. {AGAIN}",
                TRY_AGAIN,
            )
        patience.sleep(patience.poll_sec)


@dataclass(frozen=True)
class Upload:
    """One upload: to whom, from where, what, and with whose key."""

    client: RESTClientObject
    code_dir: Path
    wanted: Wanted
    key: Secret | None
    patience: Patience
    screen: Screen


def there(thing: T | None) -> T:
    """A thing that the earlier steps of the plan have made sure of."""
    if thing is None:
        raise AssertionError("a step came before the one that it needs")
    return thing
