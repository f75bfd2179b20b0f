"""`nimdrum score`: a file of prompts in, a file of answers out."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nimdrum.base.errors import NimdrumError
from nimdrum.tools.run_options import look_first, refuse, run_options, set_parameter

if TYPE_CHECKING:
    from nimdrum.scoring.journal import Journal
    from nimdrum.scoring.rows_file import RowsFile
    from nimdrum.tools.score.summary import Summary

STDOUT = Path("-")
ANY = click.Path(path_type=Path, allow_dash=True)


@click.command()
@click.argument("rows", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=ANY,
    help="File for the answers: .csv, .json, .jsonl or .parquet; - prints them. "
    "[default: FILE-answers in this folder, or standard output where that is a pipe]",
)
@click.option("--column", metavar="NAME", help="Column that holds the prompts.  [default: promptText]")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option(
    "--resume", is_flag=True, help="Go on with a run that was ended: ask only what its journal does not hold."
)
@click.option("--retry-failed", is_flag=True, help="The same, and rows that failed are asked again.")
@run_options
def score(
    rows: Path,
    output: Path | None,
    column: str | None,
    as_json: bool,
    resume: bool,
    retry_failed: bool,
    assignments: tuple[str, ...],
    params: Path | None,
    code_dir: Path,
    verbose: bool,
) -> None:
    """Answer the prompts in FILE (CSV, JSON, JSON Lines or Parquet, by its ending), as `drum score` does.

    While it runs, each answer is kept in OUTPUT.journal, so that --resume can go on after whatever ended it.

    Exits with 0 when all rows are answered, 3 when some failed (the answers are written), 1 when there are no answers,
    2 when something is wrong with what was asked (nothing was started), 130 after Ctrl-C.
    """
    from nimdrum.scoring.entries import NOBODY_ANSWERED
    from nimdrum.tools.score import summary as told
    from nimdrum.tools.score.answers_file import check_ending, name_answers
    from nimdrum.tools.score.resume import RESUME, RETRY_FAILED, again, journal_for, leave

    if output is None:
        output = name_answers(rows) if as_json or sys.stdout.isatty() else STDOUT
    target = None if output == STDOUT else output
    if target is None and as_json:
        refuse(["Answers and summary cannot both be printed: name a file with --output."])
    try:
        if target is not None:
            check_ending(target)
        seen = look_first(code_dir, params, assignments, column, rows, target)
        journal = journal_for(target, seen.settings.journal if seen.settings else None, resume, retry_failed)
    except NimdrumError as error:
        refuse([str(error)])
    if journal is not None:
        set_parameter(code_dir, "journal", str(journal.path))
    assert seen.rows is not None  # noqa: S101 - or the look had ended the command
    typed = sys.argv[1:]  # which DRUM has another use for
    try:
        ended = _run(code_dir, seen.rows, target, journal, verbose)
    except KeyboardInterrupt:
        kept = None if journal is None else leave(journal, typed)
        click.echo(f"Interrupted: {kept or 'no answers were written.'}", err=True)
        raise SystemExit(told.INTERRUPTED) from None
    except (NimdrumError, OSError) as error:
        kept = None if journal is None else leave(journal, typed)
        sentence = str(error) if isinstance(error, NimdrumError) else f"{error.filename or output}: {error.strerror}."
        if as_json:
            click.echo(json.dumps({"ok": False, "error": sentence}, ensure_ascii=False))
        click.echo(f"Error: {sentence}{f' {kept}' if kept else ''}", err=True)
        raise SystemExit(told.FAILED) from None
    if journal is not None and ended.failed:
        skipped = all(failure.kind in NOBODY_ANSWERED for failure in ended.failures)
        click.echo(f"To ask the failed rows again:\n  {again(typed, RESUME if skipped else RETRY_FAILED)}", err=True)
    if as_json:
        click.echo(json.dumps(told.as_object(ended), ensure_ascii=False))
    raise SystemExit(ended.exit_code)


def _run(code_dir: Path, rows: "RowsFile", output: Path | None, journal: "Journal | None", verbose: bool) -> "Summary":
    """Answer `rows`, write the answers and say what became of them. Raises NimdrumError and OSError."""
    from nimdrum.tools.score.answers_file import printing, writing
    from nimdrum.tools.score.predict import RunError, answering, loaded
    from nimdrum.tools.score.summary import Totals, as_lines

    began = time.monotonic()
    totals = Totals()
    with loaded(code_dir, verbose) as here:
        ready = time.monotonic()
        if journal is not None and journal.kept:
            here.screen.say(f"{journal.kept} rows are in {journal.path}.")
        with printing(rows.path.suffix.lower()) if output is None else writing(output) as form:
            with answering(here, rows) as frames:
                for frame in frames:
                    totals.add(frame)
                    form.add(frame)
            if sentence := totals.nothing_answered():
                raise RunError(sentence)
        where = "standard output" if output is None else str(output)
        ended = totals.summary(time.monotonic() - ready, ready - began, where)
        for line in as_lines(ended):
            here.screen.say(line)
        if journal is not None and ended.failed:
            journal.end(ended.rows, ended.failed)
        elif journal is not None:
            journal.remove()
        return ended
