"""The journal of `nimdrum score`: where it is, when it may be used, and what is typed to go on."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from nimdrum.base.errors import JournalError
from nimdrum.scoring.journal import Journal, journal_at
from nimdrum.tools import this_command

ENDING = ".journal"
RESUME, RETRY_FAILED = "--resume", "--retry-failed"


def journal_for(output: Path | None, named: Path | None, resume: bool, retry_failed: bool) -> Journal | None:
    """The journal `named`, or the one beside `output`; None where the answers go to a pipe or a device.

    Raises JournalError, also for one that a run left which did not end, unless this one is to `resume` it.
    """
    if named is None and (output is None or (output.exists() and not output.is_file())):
        if resume or retry_failed:
            raise JournalError(
                f"There is no journal without a file of answers: name one with --output to {RESUME[2:]}."
            )
        return None
    path = named or output.with_name(output.name + ENDING)  # type: ignore[union-attr]
    journal = journal_at(path, retry_failed)
    if resume or retry_failed or not journal.kept:
        return journal
    if journal.has_ended:
        journal.empty()
        return journal
    journal.close()
    raise JournalError(
        f"{path} holds {journal.kept} rows of a run that was ended: go on with {RESUME}, or delete it to begin anew."
    )


def leave(journal: Journal, typed: Sequence[str]) -> str | None:
    """Let go of it where the answers were not written: how to go on, or None when nothing is in it. `typed` are the
    arguments of this command."""
    kept = journal.kept + journal.added
    if not kept:
        journal.remove()
        return None
    journal.close()
    return f"{kept} rows are kept in {journal.path}; to go on:\n  {again(typed, RESUME)}"


def again(typed: Sequence[str], option: str) -> str:
    """What to type: the same with `option`."""
    given = [argument for argument in typed if argument not in (RESUME, RETRY_FAILED)]
    return f"{this_command()} {shlex.join([*given, option])}"
