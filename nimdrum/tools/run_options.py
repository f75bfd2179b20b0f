"""What `score`, `serve` and `ask` are told of a run, looked at first, and handed over as DRUM hands it over."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nimdrum.base.errors import NimdrumError
from nimdrum.tools import CODE_DIR

if TYPE_CHECKING:
    from nimdrum.scoring.mistakes import Seen

MISTAKE = 2
"""Exit code of what was asked wrongly: nothing was started. (Also click's own, for a wrong option.)"""
TARGET = "resultText"

Command = TypeVar("Command", bound=Callable[..., Any])


def run_options(command: Command) -> Command:
    """The options that they share."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Print the log."),
        click.option(
            "--code-dir",
            type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
            default=CODE_DIR,
            help="Your model's folder (docs/models.md); this one by default.",
        ),
        click.option(
            "--params",
            type=click.Path(path_type=Path),
            help="File of runtime parameters. It decides all of them, as DRUM's --runtime-params-file does.",
        ),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="NAME=VALUE",
            help="A runtime parameter, over file and environment; may be given several times.",
        ),
    ):
        command = option(command)
    return command


def look_first(
    code_dir: Path,
    params: Path | None,
    assignments: Sequence[str],
    column: str | None = None,
    rows: Path | None = None,
    output: Path | None = None,
) -> "Seen":
    """Look for mistakes, and hand the parameters over by this process's environment.

    Ends the command with a sentence for each mistake.
    """
    from nimdrum.base.hosting import read_hosting
    from nimdrum.base.parameters import read_parameters
    from nimdrum.base.settings import PREFIX
    from nimdrum.base.values import as_variables, read_assignments
    from nimdrum.scoring.mistakes import BY_OPTION, Asked, look

    os.environ.setdefault("TARGET_NAME", TARGET)
    hosting = read_hosting(code_dir, argv=[])
    try:
        parameters = read_parameters(hosting.code_dir)
        values = read_assignments(assignments, parameters)
        if column is not None:
            values["prompt_column_name"] = column
        asked = Asked(hosting.code_dir, hosting.target_column, params, values, rows, output, BY_OPTION)
        seen = look(asked)
        variables = {} if seen.mistakes else as_variables(seen.values, parameters)
    except NimdrumError as error:
        refuse([str(error)])
    refuse(seen.mistakes)
    if params is not None:
        for name in parameters:
            os.environ.pop(PREFIX + name, None)
    os.environ.update(variables)
    return seen


def set_parameter(code_dir: Path, name: str, value: object) -> None:
    """As if it had been given."""
    from nimdrum.base.parameters import read_parameters
    from nimdrum.base.values import as_variables

    os.environ.update(as_variables({name: value}, read_parameters(code_dir)))


def refuse(mistakes: Sequence[str]) -> None:
    """End the command when there are any."""
    for sentence in mistakes:
        click.echo(f"Error: {sentence}", err=True)
    if mistakes:
        raise SystemExit(MISTAKE)


def code_dir_for_drum(code_dir: Path) -> Path:
    """The folder with this project's hooks in it, through which DRUM sees the model (docs/decisions/0008)."""
    from nimdrum.base.hosting import read_hosting
    from nimdrum.supervisor.rundir import create_folder
    from nimdrum.tools.code_dir import make_code_dir

    hosting = read_hosting(code_dir, argv=[])
    create_folder(hosting.state_root)
    return make_code_dir(hosting.code_dir, hosting.state_root, hosting.environ.get("TARGET_TYPE"))
