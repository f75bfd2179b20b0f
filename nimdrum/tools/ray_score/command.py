"""`nimdrum ray-score`: rows in files on many machines, answered by as many engines as there are."""

import json
from pathlib import Path

import click

from nimdrum.base.errors import NimdrumError
from nimdrum.tools.run_options import look_first, refuse, run_options

FORMS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}
FAILED, SOME_FAILED, INTERRUPTED = 1, 3, 130
INSTALL = "pip install 'nimdrum[ray]'"


@click.command("ray-score")
@click.argument("source")
@click.argument("target")
@click.option("--column", metavar="NAME", help="Column that holds the prompts.  [default: promptText]")
@click.option(
    "--key", metavar="NAME", help="Column with another value in each row. Parquet needs none: its rows are numbered."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "jsonl"]),
    help="Of SOURCE and TARGET.  [default: SOURCE's ending, or parquet]",
)
@click.option(
    "--address", envvar="RAY_ADDRESS", help="Of the Ray cluster, or auto.  [default: Ray on this machine only]"
)
@click.option("--min-actors", type=click.IntRange(min=1), default=1, show_default=True, help="Actors to begin with.")
@click.option("--max-actors", type=click.IntRange(min=1), help="Actors at most.  [default: as --min-actors]")
@click.option(
    "--block-rows",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Rows in a block: what an actor answers in one call, a file of TARGET, and what a crash asks again.",
)
@click.option(
    "--gpus", type=click.FloatRange(min=0), default=0.0, help="GPUs of an actor; 0.5: two share one, and its engine."
)
@click.option(
    "--cpus",
    type=click.FloatRange(min=0),
    help="CPUs that Ray keeps for an actor.  [default: 1; 0 on this machine only]",
)
@run_options
def ray_score(
    source: str,
    target: str,
    column: str | None,
    key: str | None,
    form: str | None,
    address: str | None,
    min_actors: int,
    max_actors: int | None,
    block_rows: int,
    gpus: float,
    cpus: float | None,
    assignments: tuple[str, ...],
    params: Path | None,
    code_dir: Path,
    verbose: bool,
) -> None:
    """Answer the prompts in SOURCE, a file or folder on a disk that all machines share or in an object store, and write
    the answers beside them into the folder TARGET.

    The same command goes on where the last one was interrupted. Exits with 0 when all rows are answered, 3 when some
    failed, 1 when the run ended early, 2 when something is wrong with what was asked.
    """
    look_first(code_dir, params, assignments, column)
    from nimdrum.base.hosting import read_hosting
    from nimdrum.base.parameters import PACKAGE, read_parameters
    from nimdrum.base.secret import Secret
    from nimdrum.base.settings import drum_reader, load_settings
    from nimdrum.tools.ray_score.scorer import answers_fingerprint

    try:
        from nimdrum.tools.ray_score import pipeline
    except ImportError:
        refuse([f"Ray is not installed: {INSTALL}"])
        return
    settings = load_settings(code_dir)
    fingerprint = answers_fingerprint(settings, code_dir)
    values = {name: value for name in read_parameters(code_dir) if (value := drum_reader(name)) is not None}
    job = pipeline.Job(
        source=_place(source),
        target=_place(target),
        form=form or next((FORMS[end] for end in Path(source.lower()).suffixes if end in FORMS), "parquet"),
        key=key,
        prompt_column=settings.prompt_column,
        fingerprint=fingerprint,
        scorer={
            "parameters": Secret(json.dumps(values)),
            "code_dir": str(code_dir),
            "only_these": params is not None,
            "fingerprint": fingerprint,
            "target": read_hosting(code_dir, argv=[]).target_column,
        },
        all_columns=code_dir != PACKAGE.parent and (code_dir / "custom.py").is_file(),
        min_actors=min_actors,
        max_actors=max(min_actors, max_actors or min_actors),
        block_rows=block_rows,
        cpus=float(address is not None) if cpus is None else cpus,  # two cores must do for a reader, a writer, a filter
        gpus=gpus,
    )
    pipeline.connect(address, verbose)
    try:
        outcome = pipeline.run(job)
    except KeyboardInterrupt:
        click.echo("Interrupted: the same command goes on from here.", err=True)
        raise SystemExit(INTERRUPTED) from None
    except NimdrumError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(FAILED) from None
    click.echo(f"{outcome.rows} rows, {outcome.failed} with a row error. Answers: {job.target}", err=True)
    raise SystemExit(SOME_FAILED if outcome.failed else 0)


def _place(where: str) -> str:
    return where.rstrip("/") if "://" in where else str(Path(where).absolute())
