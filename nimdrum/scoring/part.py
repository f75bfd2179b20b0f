"""What a call knows of the batch that it is a part of: a command sends a large file in pieces, several at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


class Stopped(BaseException):
    """The whole is given up, and with it this call. No Exception: nobody is to make an answer of it."""


def _never() -> bool:
    return False


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Part:
    """By default a call is all there is."""

    first: int = 0
    """How many rows stand before its own."""
    batch: object = None
    """What it is a part of; None when it is alone."""
    stopped: Callable[[], bool] = _never
    begun: Callable[[], None] = _nothing
    """Called in the loop when no row of it waits for its turn any more: the next part's may come."""

    @property
    def alone(self) -> bool:
        """Whether it is for this call to say that no row at all was answered."""
        return self.batch is None

    def follows(self, other: "Part") -> bool:
        """Whether the rows of `other` stand before its own: they begin first."""
        return self.batch is not None and other.batch is self.batch and other.first < self.first

    def check(self) -> None:
        """Raises Stopped."""
        if self.stopped():
            raise Stopped


WHOLE = Part()
_part: ContextVar[Part] = ContextVar("nimdrum_part", default=WHOLE)


def current_part() -> Part:
    return _part.get()


@contextmanager
def as_part(part: Part) -> Iterator[None]:
    """Calls of this thread are `part` inside of the block."""
    token = _part.set(part)
    try:
        yield
    finally:
        _part.reset(token)
