"""What a call knows of the batch that it is a part of: a command sends a large file in parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """By default a call is all there is."""

    first: int = 0
    """How many rows stand before its own."""
    stopped: Callable[[], bool] = lambda: False
    """Whether the whole is given up."""
    alone: bool = True
    """Whether it is for this call to say that no row at all was answered."""


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
