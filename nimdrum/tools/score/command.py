"""`nimdrum score`: a file of prompts in, a file of answers out."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nimdrum.base.errors import NimdrumError
from nimdrum.tools.run_options import look_first, refuse, run_options

if TYPE_CHECKING:
    from nimdrum.tools.score.predict import Answers
    from nimdrum.tools.screen import Screen

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
@run_options
def score(
    rows: Path,
    output: Path | None,
    column: str | None,
    as_json: bool,
    assignments: tuple[str, ...],
    params: Path | None,
    code_dir: Path,
    verbose: bool,
) -> None:
    """Answer the prompts in FILE (CSV, JSON, JSON Lines or Parquet, by its ending), as `drum score` does.

    Exits with 0 when all rows are answered, 3 when some failed (the answers are written), 1 when there are no answers,
    2 when something is wrong with what was asked (nothing was started), 130 after Ctrl-C.
    """
    from nimdrum.tools.score import summary as told
    from nimdrum.tools.score.answers_file import check_ending, name_answers, print_answers, write_answers

    if output is None:
        output = name_answers(rows) if as_json or sys.stdout.isatty() else STDOUT
    printed = output == STDOUT
    if printed and as_json:
        refuse(["Answers and summary cannot both be printed: name a file with --output."])
    try:
        if not printed:
            check_ending(output)
    except NimdrumError as error:
        refuse([str(error)])
    body = look_first(code_dir, params, assignments, column, rows, None if printed else output)

    def use(answers: "Answers", screen: "Screen") -> None:
        if printed:
            print_answers(answers.frame, rows.suffix.lower())
        else:
            write_answers(answers.frame, output)
        where = "standard output" if printed else str(output)
        ended = told.summarize(answers.frame, answers.scoring_sec, answers.ready_sec, where)
        for line in told.as_lines(ended):
            screen.say(line)
        if as_json:
            click.echo(json.dumps(told.as_object(ended), ensure_ascii=False))
        raise SystemExit(ended.exit_code)

    from nimdrum.tools.score.predict import answer_all

    try:
        answer_all(code_dir, body or b"", verbose, use)
    except KeyboardInterrupt:
        click.echo("Interrupted: no answers were written.", err=True)
        raise SystemExit(told.INTERRUPTED) from None
    except NimdrumError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "error": str(error)}, ensure_ascii=False))
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(told.FAILED) from None
