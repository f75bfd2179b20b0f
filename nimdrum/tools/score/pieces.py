"""Pieces of a file under way, several at once, and their frames in order, with the memory of some of them.

The next piece begins when all rows of one before have begun, not when they are done: the window stays full across the
borders, and one slow row holds up nothing but the frames behind it, which wait on the disk.
"""

import pickle
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from types import TracebackType

import pandas as pd

from nimdrum.scoring.part import Part, as_part
from nimdrum.scoring.rows_file import Piece

NOT_BEGUN = 2
"""Pieces whose rows wait for their turn: one that goes, and one that follows."""
UNDER_WAY = 32
END_SEC = 10.0


class Shelf:
    """Frames that wait for their turn, in a file that has no name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        self._places: dict[int, int] = {}

    def __enter__(self) -> "Shelf":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def put(self, number: int, frame: pd.DataFrame) -> None:
        self._places[number] = self._file.seek(0, 2)
        pickle.dump(frame, self._file)

    def pop(self, number: int) -> pd.DataFrame | None:
        """None when it is not there yet."""
        if number not in self._places:
            return None
        self._file.seek(self._places.pop(number))
        frame: pd.DataFrame = pickle.load(self._file)  # noqa: S301 - nobody else can open that file
        if not self._places:
            self._file.truncate(0)
        return frame


def answer_in_order(
    pieces: Iterator[Piece], rows: int, answer: Callable[[Piece], pd.DataFrame]
) -> Generator[pd.DataFrame, None, None]:
    """Have each piece answered in a thread of its own; their frames in order. `rows` are all rows.

    Raises what `answer` and `pieces` raise. When that or an interruption ends it, or it is closed, the pieces under way
    are stopped.
    """
    events: SimpleQueue[tuple[int, pd.DataFrame | BaseException | None]] = SimpleQueue()
    stopped = threading.Event()
    threads: dict[int, threading.Thread] = {}
    waiting: set[int] = set()
    begun_rows = number = next_out = 0
    columns: list[str] = []

    def work(number: int, piece: Piece, first: int) -> None:
        batch = None if piece.rows == rows else events
        part = Part(first, batch, stopped.is_set, lambda: events.put((number, None)))
        try:
            with as_part(part):
                events.put((number, answer(piece)))
        except BaseException as error:
            events.put((number, error))

    try:
        with Shelf() as shelf:
            is_read = False
            while True:
                while not is_read and len(waiting) < NOT_BEGUN and len(threads) < UNDER_WAY:
                    piece = next(pieces, None)
                    if piece is None:
                        is_read = True
                        break
                    threads[number] = threading.Thread(target=work, args=(number, piece, begun_rows), daemon=True)
                    waiting.add(number)
                    threads[number].start()
                    number, begun_rows = number + 1, begun_rows + piece.rows
                if not threads:
                    return
                which, told = events.get()
                waiting.discard(which)
                if told is None:
                    continue
                threads.pop(which).join()
                if isinstance(told, BaseException):
                    raise told
                if which != next_out:
                    shelf.put(which, told)
                    continue
                ready: pd.DataFrame | None = told
                while ready is not None:
                    columns = columns or list(ready.columns)
                    if list(ready.columns) != columns:  # one below the other they would make no sense
                        raise RuntimeError(f"The columns changed from {columns} to {list(ready.columns)}.")
                    yield ready
                    next_out += 1
                    ready = shelf.pop(next_out)
    finally:
        stopped.set()
        for thread in threads.values():
            thread.join(END_SEC)
