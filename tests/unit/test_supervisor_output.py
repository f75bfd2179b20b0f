"""The engine's output: kept, cut into lines, and without secrets."""

import io

import pytest

from nimdrum.secret import MASK
from nimdrum.supervisor.output import KEPT_LINES, LONGEST_LINE, LogTail, OutputPump

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
