"""`python -m nimdrum doctor`: the command line of this room."""

from pathlib import Path

import click

CODE_DIR = Path(__file__).resolve().parents[2]
LIST_TIMEOUT_SEC = 60
WIDEST = 140


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "nim", "external", "llamacpp"]),
    help="Look as if the runtime parameter engine had this value.",
)
@click.option("--cpu", is_flag=True, help="The same as --engine llamacpp: a machine without a GPU.")
@click.option(
    "--code-dir",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    default=CODE_DIR,
    help="Folder with custom.py; this one by default.",
)
@click.option(
    "--profiles-timeout-sec",
    default=float(LIST_TIMEOUT_SEC),
    show_default=True,
    help="Longest time for list-model-profiles, which may ask NVIDIA's registry; 0 leaves it out.",
)
def doctor(as_json: bool, engine: str | None, cpu: bool, code_dir: Path, profiles_timeout_sec: float) -> None:
    """Look for what makes a start fail: GPU, memory, disk, rights, keys, profile, ports, packages, settings.

    Run it where DRUM runs: in the container, or on the machine. It changes nothing. Exits with 1 when there is a
    problem, with 0 when there are only warnings.
    """
    import shutil

    from nimdrum import __version__
    from nimdrum.base.hosting import read_hosting
    from nimdrum.doctor.finding import Level, as_text, count
    from nimdrum.doctor.finding import as_json as to_json
    from nimdrum.doctor.gather import StoppedError, gather
    from nimdrum.doctor.judge import judge

    if cpu and engine not in (None, "llamacpp"):
        raise click.UsageError("--cpu and --engine exclude each other.")
    hosting = read_hosting(code_dir)
    try:
        facts = gather(hosting, "llamacpp" if cpu else engine, list_timeout_sec=profiles_timeout_sec)
    except StoppedError as stopped:
        raise SystemExit(128 + stopped.number) from None
    findings = judge(facts)
    where = f"NIM {facts.image.line}.x image" if facts.image else "no NIM image here"
    title = f"nimdrum {__version__}, {where}, uid {facts.uid}, code folder {facts.code_dir}"
    if as_json:
        click.echo(to_json(title, findings))
    else:
        width = min(shutil.get_terminal_size().columns, WIDEST)
        click.echo(as_text(title, findings, width, lambda text, colour: click.style(text, fg=colour)))
    raise SystemExit(1 if count(findings, Level.PROBLEM) else 0)
