"""Mistakes in what a run was asked for, found before the engine starts: it takes minutes, and they take none.

One look for `nimdrum score`, `nimdrum serve`, `drum score`, `drum server` and `doctor`. Functions of values; only the
files that they name are read, and nothing is written but a file of the output's name, which is gone again.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nimdrum.base.errors import BadInputError, NimdrumError
from nimdrum.base.files import check_output
from nimdrum.base.parameters import read_parameters
from nimdrum.base.settings import Settings, drum_reader, load_settings
from nimdrum.base.values import read_values, strangers
from nimdrum.engines.choose import AUTO, find_kinds, kind_named
from nimdrum.scoring.columns import MESSAGES
from nimdrum.scoring.frame import check_target
from nimdrum.scoring.reader import shown_columns
from nimdrum.scoring.rows_file import RowsFile, look_through

BY_OPTION = "name one with --column"
BY_PARAMETER = "rename it, or set the runtime parameter prompt_column_name"

Reader = Callable[[str], Any]


@dataclass(frozen=True)
class Asked:
    """What a run was asked for."""

    model_dir: Path | None
    target: str
    values_file: Path | None = None
    """Values of runtime parameters: it decides all of them, as DRUM's --runtime-params-file does."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Those of the command line, which win."""
    rows: Path | None = None
    output: Path | None = None
    remedy: str = BY_PARAMETER
    """What to do when the prompt column is missing; it depends on how the run was called."""


@dataclass(frozen=True)
class Seen:
    """What was found: `mistakes`, a sentence each, or all that a run needs."""

    mistakes: tuple[str, ...]
    values: Mapping[str, Any]
    """Of file and command line together."""
    settings: Settings | None
    rows: RowsFile | None


def look(asked: Asked, settings: Settings | None = None, read: Reader = drum_reader) -> Seen:
    """Look at everything. Without `settings`, those of a DRUM that has taken its values already, they are read from
    what is `asked` and, without a file, from the environment."""
    mistakes: list[str] = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except NimdrumError as error:
            mistakes.append(str(error))

    values: dict[str, Any] = {}
    rows: RowsFile | None = None
    with noting():
        parameters = read_parameters(asked.model_dir)
        if asked.values_file is not None:
            values |= read_values(asked.values_file)
        values |= asked.values
        mistakes += strangers(values, parameters)
        settings = settings or load_settings(
            asked.model_dir,
            lambda name: values[name] if name in values else None if asked.values_file else read(name),
        )
        with noting():
            if settings.engine != AUTO:
                kind_named(settings.engine, find_kinds())
        if settings.extra_output_columns:
            with noting():
                check_target(asked.target, settings.n)
    if asked.output is not None:
        with noting():
            check_output(asked.output)
    if asked.rows is not None:
        with noting():
            rows = look_through(asked.rows)
            if settings is not None:
                check_rows(rows, settings, asked.remedy)
    return Seen(tuple(mistakes), values, settings, rows)


def check_rows(rows: RowsFile, settings: Settings, remedy: str) -> None:
    """Raise BadInputError when there is nothing to ask, or no column to ask from."""
    column, found, path = settings.prompt_column, rows.columns, rows.path
    if not rows.rows:
        raise BadInputError(f"{path} has no rows: write prompts below the header line, one in each row.")
    if column in found or (settings.per_row_columns and MESSAGES in found):
        return
    near = difflib.get_close_matches(column.lower(), [name.lower() for name in found], 1)
    hint = next((f" (did you mean {name}?)" for name in found if near and name.lower() == near[0]), "")
    raise BadInputError(f"{path} has no column {column!r}{hint}; it has {shown_columns(found)}: {remedy}.")
