"""The command line: what runs now, what can be set, and answers beside their prompts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from nimdrum import __version__
from nimdrum.base.errors import NimdrumError, UploadError
from nimdrum.base.parameters import BEGIN, END, read_parameters, replace_table, table
from nimdrum.tools import CODE_DIR
from nimdrum.tools.ask import ask
from nimdrum.tools.code_dir import code_dir
from nimdrum.tools.doctor.command import doctor
from nimdrum.tools.ray_score.command import ray_score
from nimdrum.tools.score.command import score
from nimdrum.tools.serve.command import serve
from nimdrum.tools.upload.command import bundle, upload
from nimdrum.tools.warm.command import profiles, warm

NO_ENGINE = "No engine of this user runs here."
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Commands(click.Group):
    """Errors of this package, and of files, as one sentence and exit code 1, or the code that the error brings."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NimdrumError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code if isinstance(error, UploadError) else 1)
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'A file'}: {error.strerror or error}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """NVIDIA NIM language models inside DataRobot: tools beside the DRUM hooks."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the state files' content as a JSON array.")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C; in a pipe, what changed.")
def status(as_json: bool, watch: bool) -> None:
    """Show the engines of this user: their state, where they answer, and why they failed.

    Exits with 0 when an engine is RUNNING, with 1 when none is.
    """
    from nimdrum.base.hosting import read_hosting
    from nimdrum.supervisor.state import describe, find_engines

    root = read_hosting(CODE_DIR).state_root

    def text() -> str:
        return "\n".join(describe(path, state) for path, state in find_engines(root)) or NO_ENGINE

    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other.")
    if watch:
        from nimdrum.tools.screen import show_again

        show_again(text)
    engines = find_engines(root)
    if as_json:
        click.echo(
            json.dumps([{"run_dir": str(path), **dataclasses.asdict(state)} for path, state in engines], indent=1)
        )
    elif not watch:
        click.echo(text())
    raise SystemExit(0 if any(state.phase.value == "RUNNING" for _, state in engines) else 1)


@main.command()
@click.argument("prompts", type=FILE)
@click.argument("answers", type=FILE)
@click.option("--column", default="promptText", show_default=True, help="Name of the prompt column.")
@click.option("--width", type=click.IntRange(min=40), help="Width of the table; the terminal's by default.")
@click.option("--full", is_flag=True, help="Show all lines of long prompts and answers.")
def show(prompts: Path, answers: Path, column: str, width: int | None, full: bool) -> None:
    """Show the ANSWERS that `drum score` wrote beside the PROMPTS that it read, as a table; or those of a journal."""
    import shutil

    from nimdrum.scoring.entries import HEADER
    from nimdrum.scoring.rows_file import read_body
    from nimdrum.tools.show import render

    columns = width or shutil.get_terminal_size().columns
    raw = answers.read_bytes()
    answered = raw if raw.startswith(HEADER) else read_body(answers)
    click.echo(render(read_body(prompts), answered, column, columns, full))


@main.command()
@click.option("--write", "target", type=FILE, help="Put the table into this file.")
@click.option("--check", "checked", type=FILE, help="Fail if the file's table is old.")
def parameters(target: Path | None, checked: Path | None) -> None:
    """Print the runtime parameters as the Markdown table that docs/parameters.md shows."""
    _put("parameters", table(read_parameters().values()), (BEGIN, END), target, checked)


@main.command()
@click.option("--write", "target", type=FILE, help="Put the tables into this file.")
@click.option("--check", "checked", type=FILE, help="Fail if the file's tables are old.")
def variables(target: Path | None, checked: Path | None) -> None:
    """Print what becomes of NIM's variables and flags, as the Markdown tables that docs/variables.md shows."""
    from nimdrum.engines import verdicts

    _put("variables", verdicts.tables(), (verdicts.BEGIN, verdicts.END), target, checked)


def _put(command: str, text: str, marks: tuple[str, str], target: Path | None, checked: Path | None) -> None:
    """Print `text`, or put it between the marks of `target`, or see that it stands in `checked`."""
    path = target or checked
    if path is None:
        click.echo(text)
        return
    old = path.read_text(encoding="utf-8")
    new = replace_table(old, text, marks)
    if target:
        path.write_text(new, encoding="utf-8")
    elif new != old:
        raise click.ClickException(f"The table in {path} is old. Run: python -m nimdrum {command} --write {path}")


for _command in (
    ask,
    bundle,
    code_dir,
    doctor,
    profiles,
    ray_score,
    score,
    serve,
    upload,
    warm,
):  # the ones with a room of their own
    main.add_command(_command)
