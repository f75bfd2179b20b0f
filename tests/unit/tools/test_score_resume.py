"""Which journal a run gets, and what is typed to go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nimdrum.base.errors import JournalError
from nimdrum.scoring import journal as module
from nimdrum.scoring.answer import Completion
from nimdrum.scoring.entries import HEADER
from nimdrum.scoring.journal import Journal
from nimdrum.tools.score.resume import RESUME, RETRY_FAILED, again, journal_for, leave


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Journals that a test leaves open are closed at its end."""
    yield
    for each in list(module._journals.values()):
        each.close()


def opened(output: Path | None, resume: bool = False, retry_failed: bool = False, named: Path | None = None) -> Journal:
    journal = journal_for(output, named, resume, retry_failed)
    assert journal is not None
    return journal


def with_an_answer(output: Path) -> Journal:
    journal = opened(output)
    journal.add(1, b"{}", False, Completion(("x",), "stop", 1, 1), in_flight=1)
    return journal


def test_beside_the_answers_or_where_it_is_told(tmp_path: Path) -> None:
    """Its name is that of the answers and an ending; a name of its own also serves where answers are printed."""
    assert opened(tmp_path / "a.csv").path == tmp_path / "a.csv.journal"
    assert opened(None, named=tmp_path / "b").path == tmp_path / "b"


@pytest.mark.parametrize("output", [None, Path("/dev/null")])
def test_none_for_what_is_printed(output: Path | None) -> None:
    """And so there is nothing to go on with."""
    assert journal_for(output, None, False, False) is None
    for options in ((True, False), (False, True)):
        with pytest.raises(JournalError, match="name one with --output"):
            journal_for(output, None, *options)
    assert not Path("/dev/null.journal").exists()


def test_one_that_is_left_over(tmp_path: Path) -> None:
    """Neither used nor overwritten without a word; where its answers were written it is empty again."""
    output = tmp_path / "a.csv"
    with_an_answer(output).close()
    with pytest.raises(JournalError, match="holds 1 rows of a run that was ended: go on with --resume, or delete it"):
        journal_for(output, None, False, False)
    journal = opened(output, resume=True)
    assert journal.kept == 1
    journal.end(2, 1)
    assert opened(output, retry_failed=True).kept == 1
    module._journals[journal.path].close()
    journal = opened(output)
    assert journal.kept == 0
    assert journal.path.read_bytes() == HEADER


def test_what_is_typed_to_go_on(tmp_path: Path) -> None:
    """The same with the option once, in quotes where a shell wants them; nothing where nothing is kept."""
    typed = ["score", "my rows.csv", RESUME, "--set", "n=2"]
    assert again(typed, RETRY_FAILED).endswith(" score 'my rows.csv' --set n=2 --retry-failed")
    told = leave(with_an_answer(tmp_path / "a.csv"), typed)
    assert told is not None
    assert told.startswith(f"1 rows are kept in {tmp_path / 'a.csv.journal'}; to go on:\n")
    assert told.endswith(" score 'my rows.csv' --set n=2 --resume")
    assert leave(opened(tmp_path / "b.csv"), typed) is None
    assert not (tmp_path / "b.csv.journal").exists()
