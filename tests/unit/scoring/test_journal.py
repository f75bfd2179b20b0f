"""A journal on a real disk: what went in comes out, each entry once, whatever happened to the file in between."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.errors import JournalError
from nimdrum.scoring import journal as module
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.entries import HEADER, Entry, Index, as_line, read_line
from nimdrum.scoring.fingerprint import fingerprint_of_body
from nimdrum.scoring.journal import Journal, journal_at

BODIES = [b'{"model": "m", "messages": [%d]}' % number for number in range(100)]
PRINTS = [fingerprint_of_body(body, False) for body in BODIES]
FAILED = RowFailure("refused", "no", 400, 0.5, 1)


def answer(text: str) -> Completion:
    return Completion((text,), "stop", 3, 5, latency_sec=0.25, attempts=1)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Journals that a test leaves open are closed at its end."""
    yield
    for each in list(module._journals.values()):
        each.close()


def add(journal: Journal, row: int, number: int, result: Completion | RowFailure) -> None:
    """In the file when it returns."""
    journal.add(row, BODIES[number], False, result, in_flight=1)


def again(journal: Journal, retry_failed: bool = False) -> Journal:
    """As the next process finds it."""
    journal.close()
    return journal_at(journal.path, retry_failed)


texts = st.text(max_size=20)
results = st.one_of(
    st.builds(
        Completion,
        st.lists(texts, min_size=1, max_size=3).map(tuple),
        st.none() | texts,
        st.none() | st.integers(0, 9),
        st.none() | st.integers(0, 9),
        blank_reason=st.none() | texts,
        reasoning=texts,
        latency_sec=st.none() | st.floats(0, 1e6),
        attempts=st.integers(0, 9),
        incomplete=texts,
    ),
    st.builds(RowFailure, texts, texts, st.integers(400, 599), st.floats(0, 10), st.integers(0, 9)),
)


@given(st.integers(1, 10**7), results)
def test_a_line_reads_back(row: int, result: Completion | RowFailure) -> None:
    """Every result, whatever is in its texts, is one line of JSON, and the same again; also what is not compared."""
    line = as_line(row, PRINTS[0], result)
    assert line.count(b"\n") == 1
    read = read_line(line)
    assert read is not None
    assert (read.row, read.fingerprint, repr(read.result)) == (row, PRINTS[0], repr(result))


def test_the_lines_as_documented(tmp_path: Path) -> None:
    """docs/journal.md shows these two lines."""
    journal = journal_at(tmp_path / "j")
    add(journal, 1, 0, answer("Paris."))
    add(journal, 2, 1, FAILED)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    assert lines[0] == HEADER
    assert json.loads(lines[1]) == {
        "row": 1,
        "asked": PRINTS[0],
        "answer": {
            "texts": ["Paris."],
            "finish_reason": "stop",
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "latency_sec": 0.25,
            "attempts": 1,
        },
    }
    assert json.loads(lines[2])["failure"]["kind"] == "refused"
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


@given(
    entries=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30),
    asked=st.lists(st.integers(0, 5), max_size=30),
)
def test_each_entry_is_given_once(entries: list[tuple[int, bool]], asked: list[int]) -> None:
    """Against a plain model: of the entries with a fingerprint the answers first, then the failures, each once, in the
    order in which they were written."""
    index = Index()
    for offset, (number, failed) in enumerate(entries):
        index.add(Entry(1, PRINTS[number], FAILED if failed else answer("x")), offset, 7)
    index.close()
    left = {
        number: sorted((failed, at) for at, (n, failed) in enumerate(entries) if n == number) for number in range(6)
    }
    half = len(asked) // 2  # asked for in two calls
    given_out = index.take([PRINTS[n] for n in asked[:half]]) + index.take([PRINTS[n] for n in asked[half:]])
    assert given_out == [(left[n].pop(0)[1], 7) if left[n] else None for n in asked]


def test_rows_with_one_request_have_an_answer_each(tmp_path: Path) -> None:
    """Two rows that ask the same were asked twice, and the third is missing."""
    journal = journal_at(tmp_path / "j")
    add(journal, 7, 0, answer("one"))
    add(journal, 3, 0, answer("two"))
    journal = again(journal)
    assert journal.find([PRINTS[0], PRINTS[1], PRINTS[0]]) == [answer("one"), None, answer("two")]
    assert journal.find([PRINTS[0]]) == [None]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=60))
def test_what_a_kill_loses(in_flight: list[int]) -> None:
    """Of what is done, never more than a quarter of what is in flight; nothing once it was flushed."""
    with tempfile.TemporaryDirectory() as folder:
        journal = journal_at(Path(folder) / "j")
        for row, each in enumerate(in_flight, start=1):
            journal.add(row, b"", False, answer("x"), each)
            assert journal.waiting < each / 4
            assert journal.path.read_bytes().count(b"\n") == 1 + row - journal.waiting
        journal.flush()
        assert journal.path.read_bytes().count(b"\n") == 1 + len(in_flight)
        journal.remove()


def test_failed_rows(tmp_path: Path) -> None:
    """They stay failed until somebody wants them asked again; an answer that came then counts, and not the failure."""
    journal = journal_at(tmp_path / "j")
    add(journal, 1, 0, FAILED)
    journal = again(journal)
    assert (journal.kept, journal.failed) == (1, 1)
    assert journal.find([PRINTS[0]]) == [FAILED]
    journal = again(journal, retry_failed=True)
    assert journal.find([PRINTS[0]]) == [None]
    add(journal, 1, 0, answer("now"))
    assert again(journal).find([PRINTS[0]]) == [answer("now")]


@pytest.mark.parametrize("kind", ["engine_down", "skipped", "bad_row", "empty_prompt"])
def test_whom_nobody_answered_is_missing(tmp_path: Path, kind: str) -> None:
    """A row that the engine never answered is no entry: the next run asks it without being told to."""
    journal = journal_at(tmp_path / "j")
    add(journal, 1, 0, RowFailure(kind, "x", 503))
    assert journal.path.read_bytes() == HEADER


def test_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a write was torn, what stands before it is there, and new lines follow whole ones."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # six hundred times, it may take minutes on a busy disk
    whole = journal_at(tmp_path / "whole")
    for row in range(3):
        add(whole, row + 1, row, answer("ä" * 3))
    whole.close()
    content = whole.path.read_bytes()
    for length in range(len(content)):
        path = tmp_path / "torn"
        path.write_bytes(content[:length])
        complete = max(content[:length].count(b"\n") - 1, 0)
        journal = journal_at(path)
        assert journal.kept == complete
        add(journal, 9, 9, answer("new"))
        journal = again(journal)
        assert journal.kept == complete + 1
        assert all(found is not None for found in journal.find([*PRINTS[:complete], PRINTS[9]]))
        journal.remove()
        assert not path.exists()


def test_lines_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a power cut a file may hold zeros: one warning, and the other rows count."""
    path = tmp_path / "j"
    line = as_line(1, PRINTS[0], answer("x"))
    path.write_bytes(HEADER + b"\0\0\0\n" + b'{"row": 1}\n' + line.replace(b'"asked":"', b'"asked":"z') + line)
    assert journal_at(path).find([PRINTS[0]]) == [answer("x")]
    assert "3 lines of the journal" in caplog.text


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    """Not a byte of a file that is no journal is touched."""
    path = tmp_path / "prompts.csv"
    path.write_text("promptText\nhello")
    with pytest.raises(JournalError, match="no journal of this release"):
        journal_at(path)
    assert path.read_text() == "promptText\nhello"


def test_two_runs_on_one_journal(tmp_path: Path) -> None:
    """Another process is refused while this one has it, and gets it afterwards."""
    journal = journal_at(tmp_path / "j")
    code = f"from pathlib import Path; from nimdrum.scoring.journal import journal_at; journal_at(Path({str(journal.path)!r}))"

    def other() -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)

    refused = other()
    assert refused.returncode == 1
    assert "Another run has the journal" in refused.stderr.splitlines()[-1]
    journal.close()
    assert other().returncode == 0


def test_no_place_for_it(tmp_path: Path) -> None:
    """One sentence with the path and what to do, for a folder that is none."""
    with pytest.raises(JournalError, match=r"No journal can be kept at .*/no/j \(No such file or directory\): make"):
        journal_at(tmp_path / "no" / "j")


def test_a_full_disk(tmp_path: Path) -> None:
    """A file size limit stands for it, in a process of its own: one sentence, and every line before is whole."""
    path = tmp_path / "j"
    code = (
        "import resource, signal; from pathlib import Path\n"
        "from nimdrum.scoring.journal import journal_at; from nimdrum.scoring.answer import Completion\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"journal = journal_at(Path({str(path)!r}))\n"
        "for row in range(1, 100):\n"
        "    journal.add(row, b'%d' % row, False, Completion(('x' * 50,), 'stop', 1, 1), in_flight=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert os.strerror(errno.EFBIG) in last
    assert "the rows answered so far are in it" in last
    lines = path.read_bytes().splitlines(keepends=True)
    assert 3 < len(lines) < 10
    assert journal_at(path).kept == len(lines) - 1


def test_the_disk_has_it_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synced by time, and only when there is something new."""
    now, synced = [0.0], []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal = journal_at(tmp_path / "j", clock=lambda: now[0])
    for second in range(20):
        now[0] = float(second)
        if second < 7:
            add(journal, second + 1, second, answer("x"))
        journal.sync()
    assert len(synced) == 2
