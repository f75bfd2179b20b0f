"""`python -m nimdrum warm` and `profiles`: the command line of this room."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from nimdrum.tools import CODE_DIR

DEFAULT_TIMEOUT_SEC = 4 * 3600
DEFAULT_MIN_FREE_GB = 20
LIST_TIMEOUT_SEC = 120


@click.command()
@click.option("--profiles", "-p", multiple=True, metavar="ID", help="Profile to download; may be repeated.")
@click.option("--all", "every", is_flag=True, help="Download every profile of the image.")
@click.option("--model-uri", metavar="URI", help="Model for a model-free NIM 2.x, for example hf://org/name.")
@click.option(
    "--manifest-file",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    help="NIM's runtime manifest for --model-uri.",
)
@click.option(
    "--model-store",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    help="Write a plain model folder here instead of a cache (create-model-store).",
)
@click.option("--model-repo", metavar="URI", help="Model for --model-store that is not a profile of the image.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    help="Cache folder to fill; by default that of the engine: NIM_CACHE_PATH.",
)
@click.option("--min-free-gb", default=float(DEFAULT_MIN_FREE_GB), show_default=True, help="Free disk to begin with.")
@click.option("--timeout-sec", default=float(DEFAULT_TIMEOUT_SEC), show_default=True, help="Longest time for the tool.")
@click.option("--no-sums", is_flag=True, help="Write no SHA256SUMS.")
@click.option("--only-sums", is_flag=True, help="Only check the folder and write its SHA256SUMS; needs no NIM image.")
def warm(
    cache: Path | None,
    min_free_gb: float,
    timeout_sec: float,
    no_sums: bool,
    only_sums: bool,
    model_store: Path | None,
    profiles: tuple[str, ...],
    **options: Any,
) -> None:
    """Fill a model cache ahead of time, inside a NIM image, with NIM's own tools.

    For a volume that a deployment mounts, or in a RUN line of a Dockerfile. Without --profiles, --all or --model-uri
    the profile is NIM_MODEL_PROFILE, and when that is empty the best one for the GPUs here. The key comes from the
    runtime parameter or the variable NGC_API_KEY (HF_TOKEN for Hugging Face), never from the command line. At the end
    the folder is checked, and SHA256SUMS is written into it. Pages about each way: docs/weights/.
    """
    from nimdrum.tools.warm.fill import fill, prepare, write_manifest
    from nimdrum.tools.warm.job import default_cache, look_inside, plan_job

    cache = cache or default_cache(CODE_DIR)
    if only_sums:
        write_manifest(model_store or cache, click.echo)
        return
    here = look_inside(CODE_DIR)
    if not (profiles or any(options.values())) and here.profile:
        click.echo(f"warm: the profile is NIM_MODEL_PROFILE, {here.profile}", err=True)
        profiles = (here.profile,)
    job = plan_job(here.image.line, cache, profiles=profiles, model_store=model_store, **options)
    command = here.command(job.tool)
    prepare(job.target, min_free_gb)
    fill(
        job,
        command,
        {**here.env, "NIM_CACHE_PATH": str(cache)},
        here.secrets,
        timeout_sec=timeout_sec,
        state_root=here.state_root,
        say=click.echo,
    )
    if not no_sums:
        write_manifest(job.target, click.echo)
    click.echo("Start from it without keys: leave NGC_API_KEY and HF_TOKEN empty. docs/weights/ shows each way.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.option("--timeout-sec", default=float(LIST_TIMEOUT_SEC), show_default=True, help="Longest time to wait.")
def profiles(as_json: bool, timeout_sec: float) -> None:
    """Show the model profiles of this NIM image, and which of them run on the GPUs here (list-model-profiles).

    Exits with 1 when the image lists none.
    """
    from nimdrum.base.errors import WeightsError
    from nimdrum.engines.causes import known_cause
    from nimdrum.engines.tools import LIST, parse_listing, profiles_table
    from nimdrum.system.process import run_program
    from nimdrum.tools.warm.job import look_inside

    here = look_inside(CODE_DIR)
    ended = run_program(
        here.command(LIST),
        here.env,
        cwd="/",
        timeout_sec=timeout_sec,
        marker="nimdrum profiles",
        secrets=here.secrets,
    )
    if ended.signal is not None:
        raise SystemExit(128 + ended.signal)
    listing = parse_listing(ended.lines)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(listing), indent=1))
    elif listing.profiles:
        click.echo(profiles_table(listing))
    if not listing.profiles:
        how = f"ended with code {ended.exit_code}" if ended.exit_code is not None else f"took over {timeout_sec:g} s"
        cause = known_cause(ended.lines)
        said = cause.sentence if cause else "Its last lines:\n" + "\n".join(ended.lines[-10:])
        raise WeightsError(f"{LIST} {how} and listed no profile. {said}")
