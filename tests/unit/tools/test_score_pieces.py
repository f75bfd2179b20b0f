"""Pieces under way: their frames come in order, the next begins in time, and an end of one is the end of all."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.scoring.part import Stopped, current_part
from nimdrum.scoring.rows_file import Piece
from nimdrum.tools.score.pieces import UNDER_WAY, Shelf, answer_in_order

WAIT_SEC = 30.0


def pieces(count: int) -> Iterator[Piece]:
    return (Piece(b"%d" % number, 1) for number in range(count))


def frame_of(piece: Piece) -> pd.DataFrame:
    return pd.DataFrame({"Predictions": [piece.body.decode()]})


def numbers(frames: "Iterator[pd.DataFrame]") -> list[int]:
    return [int(frame["Predictions"][0]) for frame in frames]


@pytest.mark.parametrize("seed", range(5))
def test_in_order_whoever_is_ready_first(seed: int) -> None:
    """Each knows how many rows stand before it, and that it is not alone."""
    chance = random.Random(seed)

    def answer(piece: Piece) -> pd.DataFrame:
        part = current_part()
        assert (part.first, part.alone) == (int(piece.body), False)
        part.begun()
        time.sleep(chance.random() / 100)
        return frame_of(piece)

    assert numbers(answer_in_order(pieces(60), 60, answer)) == list(range(60))


def test_a_slow_one_holds_up_nobody() -> None:
    """All the others are answered while it takes its time, and their frames wait."""
    rest = threading.Semaphore(0)

    def answer(piece: Piece) -> pd.DataFrame:
        current_part().begun()
        if piece.body == b"0":
            for _ in range(99):
                assert rest.acquire(timeout=WAIT_SEC)
        else:
            rest.release()
        return frame_of(piece)

    assert numbers(answer_in_order(pieces(100), 100, answer)) == list(range(100))


def test_one_follows_when_all_rows_of_another_have_begun() -> None:
    """Two whose rows wait are enough; a third comes when one of them says so, long before it is done."""
    running, most = [], []
    third = threading.Event()

    def answer(piece: Piece) -> pd.DataFrame:
        running.append(piece.body)
        most.append(len(running))
        if piece.body == b"0":
            current_part().begun()
            assert third.wait(WAIT_SEC)
        if piece.body == b"2":
            third.set()
        return frame_of(piece)

    assert numbers(answer_in_order(pieces(3), 3, answer)) == [0, 1, 2]


def test_not_too_many_at_once() -> None:
    """However soon all of their rows have begun."""
    lock, now, most = threading.Lock(), 0, 0

    def answer(piece: Piece) -> pd.DataFrame:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        current_part().begun()
        time.sleep(0.01)
        with lock:
            now -= 1
        return frame_of(piece)

    assert len(numbers(answer_in_order(pieces(200), 200, answer))) == 200
    assert most <= UNDER_WAY


def test_one_piece_is_alone() -> None:
    """So it is for it to say that no row was answered."""

    def answer(piece: Piece) -> pd.DataFrame:
        assert current_part().alone
        return frame_of(piece)

    assert numbers(answer_in_order(pieces(1), 1, answer)) == [0]


def wait_until_stopped() -> None:
    deadline = time.monotonic() + WAIT_SEC
    while time.monotonic() < deadline:
        current_part().check()
        time.sleep(0.01)
    raise AssertionError("nobody stopped it")


def test_an_error_ends_all() -> None:
    """Also one that is no Exception, as the end of the command; the others are told, and none is left."""
    ended = []

    def answer(piece: Piece) -> pd.DataFrame:
        if piece.body == b"1":
            raise SystemExit("the end")
        try:
            wait_until_stopped()
        except Stopped:
            ended.append(piece.body)
            raise
        return frame_of(piece)

    with pytest.raises(SystemExit, match="the end"):
        list(answer_in_order(pieces(5), 5, answer))
    assert ended == [b"0"]


def test_whoever_stops_reading_ends_all() -> None:
    """As where the disk is full when a frame is written."""
    before = set(threading.enumerate())

    def answer(piece: Piece) -> pd.DataFrame:
        if piece.body != b"0":
            wait_until_stopped()
        return frame_of(piece)

    with closing(answer_in_order(pieces(5), 5, answer)) as frames:
        assert int(next(frames)["Predictions"][0]) == 0
    assert set(threading.enumerate()) <= before  # one of another test may end meanwhile


@given(st.permutations(range(8)))
def test_the_shelf(order: list[int]) -> None:
    """What was put there is there once, whatever came first."""
    with Shelf() as shelf:
        for number in order:
            shelf.put(number, frame_of(Piece(b"%d" % number, 1)))
        for number in range(8):
            frame = shelf.pop(number)
            assert frame is not None
            assert frame["Predictions"][0] == str(number)
            assert shelf.pop(number) is None
