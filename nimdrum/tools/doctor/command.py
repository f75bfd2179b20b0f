"""`python -m nimdrum doctor`: the list of checks in the order in which a person reads them, and what is printed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import click

from nimdrum.engines.choose import AUTO, find_kinds
from nimdrum.tools import CODE_DIR
from nimdrum.tools.doctor import checks_engine
from nimdrum.tools.doctor import checks_machine as machine
from nimdrum.tools.doctor import checks_setup as setup
from nimdrum.tools.doctor.finding import Finding, warning
from nimdrum.tools.doctor.surroundings import NotSeenError, Surroundings

Check = Callable[[Surroundings], Finding | None]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("parameters", setup.check_parameters),
    ("input", setup.check_rows),
    ("engine", checks_engine.check_engine),
    ("external", checks_engine.check_external),
    ("endpoints", checks_engine.check_endpoints),
    ("gpu", machine.check_gpu),
    ("driver", machine.check_driver),
    ("gpu use", machine.check_gpu_use),
    ("shm", machine.check_shared_memory),
    ("api servers", machine.check_api_servers),
    ("key", checks_engine.check_key),
    ("profile", checks_engine.check_profile),
    ("cache", machine.check_cache),
    ("disk", machine.check_disk),
    ("fetch", machine.check_fetch),
    ("home", machine.check_home),
    ("temp", machine.check_temp),
    ("nim folders", machine.check_nim_folders),
    ("user", machine.check_user),
    ("open files", machine.check_open_files),
    ("ports", setup.check_ports),
    ("python", setup.check_python),
    ("packages", setup.check_packages),
    ("drum", setup.check_drum),
    ("code folder", setup.check_code_folder),
    ("artifacts", setup.check_artifacts),
    ("datarobot", setup.check_platform),
    ("supervisor", setup.check_supervisor),
)


def judge(facts: Surroundings) -> list[Finding]:
    """One finding for each check that applies. Raises nothing: a check that cannot be made is a warning."""
    findings = []
    for name, check in CHECKS:
        try:
            finding = check(facts)
        except NotSeenError as error:
            finding = warning(f"could not be looked at: {error}")
        except Exception as error:  # one odd fact must not hide the others
            finding = warning(f"could not be judged ({type(error).__name__})")
        if finding is not None:
            findings.append(Finding(finding.level, finding.message, finding.remedy, name))
    return findings


LIST_TIMEOUT_SEC = 60
WIDEST = 140


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--engine",
    type=click.Choice([AUTO, *(kind.name for kind in find_kinds())]),
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
@click.option("--params", type=click.Path(path_type=Path), help="Look at this file of runtime parameters too.")
@click.option("--input", "rows", type=click.Path(path_type=Path), help="Look at this file of prompts too.")
def doctor(
    as_json: bool,
    engine: str | None,
    cpu: bool,
    code_dir: Path,
    profiles_timeout_sec: float,
    params: Path | None,
    rows: Path | None,
) -> None:
    """Look for what makes a start fail: GPU, memory, disk, rights, keys, profile, ports, packages, settings.

    Run it where DRUM runs: in the container, or on the machine. It changes nothing. Exits with 1 when there is a
    problem, with 0 when there are only warnings.
    """
    import shutil

    from nimdrum import __version__
    from nimdrum.base.hosting import read_hosting
    from nimdrum.tools.doctor.finding import Level, as_text, count
    from nimdrum.tools.doctor.finding import as_json as to_json
    from nimdrum.tools.doctor.gather import StoppedError, gather

    if cpu and engine not in (None, "llamacpp"):
        raise click.UsageError("--cpu and --engine exclude each other.")
    hosting = read_hosting(code_dir)
    hosting = dataclasses.replace(hosting, values_file=params or hosting.values_file)
    try:
        facts = gather(hosting, "llamacpp" if cpu else engine, list_timeout_sec=profiles_timeout_sec, rows=rows)
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
