"""The engine's output: kept, cut into lines, and without secrets."""

import contextlib
import io
import logging
import os

import pytest

from nimdrum.base.secret import MASK
from nimdrum.system.output import FORWARD_BACKLOG, KEPT_LINES, LONGEST_LINE, Forwarder, LogTail, OutputPump

KEY = "nvapi-do-not-show-me"


def pumped(output: bytes, *secrets: str) -> tuple[list[str], LogTail]:
    """The lines that a process with this output said, read in the calling thread."""
    tail = LogTail(secrets)
    pump = OutputPump(io.BytesIO(output), tail)
    pump.run()
    return list(pump.mine), tail


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"one\ntwo\n", ["one", "two"], id="lines"),
        pytest.param(b"one\r\ntwo", ["one", "two"], id="CRLF, no end of line"),
        pytest.param(b"\n\n", ["", ""], id="blank lines"),
        pytest.param("naïve 🎉\n".encode(), ["naïve 🎉"], id="UTF-8"),
        pytest.param(b"caf\xe9\n", ["caf\ufffd"], id="not UTF-8"),
        pytest.param(f"key={KEY}\n".encode(), [f"key={MASK}"], id="a secret"),
    ],
)
def test_lines(output: bytes, lines: list[str]) -> None:
    """As they came, without line ends and secrets."""
    mine, tail = pumped(output, KEY)
    assert mine == lines
    assert tail.last() == tuple(lines)


def test_only_the_last_lines_are_kept() -> None:
    """In order; `last` gives fewer where fewer are wanted, and changes are counted."""
    mine, tail = pumped(b"".join(b"%d\n" % i for i in range(KEPT_LINES + 50)))
    assert mine == [str(i) for i in range(50, KEPT_LINES + 50)]
    assert tail.last() == tuple(mine)
    assert tail.last(2) == (str(KEPT_LINES + 48), str(KEPT_LINES + 49))
    assert tail.changes == KEPT_LINES + 50


def test_the_tail_goes_on_over_restarts() -> None:
    """Each process has lines of its own; the tail has them all."""
    tail = LogTail(())
    first, second = OutputPump(io.BytesIO(b"first\n"), tail), OutputPump(io.BytesIO(b"second\n"), tail)
    first.run()
    second.run()
    assert list(second.mine) == ["second"]
    assert tail.last() == ("first", "second")


@pytest.mark.parametrize("shown", [1, 6, len(KEY) - 1], ids=lambda shown: f"{shown} characters before the cut")
def test_a_secret_in_a_long_line_is_masked_too(shown: int) -> None:
    """A line that is too long is cut into pieces, which must not cut a key in two."""
    mine, _ = pumped(b"x" * (LONGEST_LINE - shown) + KEY.encode() + b" end\n", KEY)
    assert KEY not in "".join(mine)


def full_pipe() -> tuple[int, int]:
    """Both ends of a pipe that takes nothing more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


def test_a_reader_that_is_stuck_holds_nobody_up() -> None:
    """Lines and log records are dropped when the backlog is full; what was kept comes when the reader goes on."""
    reader, writer = full_pipe()
    forwarder = Forwarder(writer)
    for number in range(FORWARD_BACKLOG + 100):
        forwarder.put(f"line {number}")
    forwarder.handle(logging.makeLogRecord({"msg": "a record"}))
    forwarder.drain(0.1)
    seen = b""
    while b"line 999\n" not in seen:
        seen += os.read(reader, 65536)
    assert b"line 0\nline 1\n" in seen
    os.close(reader)
    forwarder.drain(10)  # the thread ends when nobody reads any more
    os.close(writer)


def test_what_was_put_is_written_before_the_end() -> None:
    reader, writer = os.pipe()
    forwarder = Forwarder(writer)
    forwarder.handle(logging.makeLogRecord({"msg": "caf\xe9 \ud800"}))
    forwarder.drain(60)
    assert os.read(reader, 4096) == "caf\xe9 ?\n".encode()
    os.close(reader)
    os.close(writer)
