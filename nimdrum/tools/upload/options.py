"""What the options of `upload` mean, and what it tells in the end. It imports the client, which takes seconds."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from nimdrum.base.errors import UploadError
from nimdrum.base.parameters import names_in_list, read_metadata
from nimdrum.base.secret import Secret
from nimdrum.tools import PROJECT
from nimdrum.tools.terminal import Terminal
from nimdrum.tools.upload.bundle import context_files, fingerprint, model_files, read_saved_image, sha256_of
from nimdrum.tools.upload.carry_out import run
from nimdrum.tools.upload.changes import environment_version, model_version, plan, registered_version
from nimdrum.tools.upload.context import Patience, Upload
from nimdrum.tools.upload.datarobot_client import configured_token, connect
from nimdrum.tools.upload.exit_codes import WRONG_INPUT
from nimdrum.tools.upload.find import look
from nimdrum.tools.upload.wanted import KEY, Found, ResourceBundle, Values, Wanted, read_values

TARGET_NAME = "resultText"


def upload_with(
    options: dict[str, Any],
    terminal: Terminal,
    environ: Mapping[str, str],
    patience: Patience,
    code_dir: Path = PROJECT,
) -> None:
    """Do what the command's options say. Raises NimdrumError."""
    token = configured_token()
    terminal.hide(token)
    terminal.hide(environ.get(KEY, "").strip())
    values = read_values(options["model_dir"], options["parameters"])
    terminal.hide(values.key.reveal() if values.key else None)
    wanted = wanted_of(options, values, terminal, code_dir)
    if options["dry_run"] and token is None:
        terminal.say("No endpoint and token are set: this is the plan for a DataRobot in which nothing is there yet.")
        found = Found(bundle=_unknown_bundle(wanted))
    else:
        client = connect(terminal, patience)
        found = look(client, wanted)
    steps = plan(wanted, found)
    if options["dry_run"]:
        for number, step in enumerate(steps, 1):
            terminal.say(f"{number:>2}. {step}")
        terminal.say("Nothing was changed: --dry-run." if steps else "unchanged: all of it is there already")
        return
    needs_key = wanted.credential_name is not None and found.credential_id is None
    key = values.key or _ask_key(terminal, environ) if needs_key else None
    found = run(Upload(client, code_dir, wanted, key, patience, terminal), found)
    for line in summary(wanted, found, client.endpoint):
        terminal.say(line)


def wanted_of(options: dict[str, Any], values: Values, terminal: Terminal, code_dir: Path) -> Wanted:
    """The options and the project's files as what is wanted. Raises UploadError and BundleError."""
    archive, uri = options["image_archive"], options["image_uri"]
    if (archive is not None) + (uri is not None) + options["build"] != 1:
        raise UploadError(
            "Say where the environment's image comes from, with one of: --image-archive build/bundle/image.tar.gz "
            "(written by `bundle --image`), --image-uri, --build.",
            WRONG_INPUT,
        )
    metadata = read_metadata(options["model_dir"])
    try:
        about = yaml.safe_load((code_dir / "env_info.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UploadError(
            "The environment's files are not installed: upload from a copy of the project.", WRONG_INPUT
        ) from None
    name = options["name"] or metadata["name"]
    external = values.engine == "external"
    takes_key = KEY in names_in_list(options["model_dir"])
    with_key = takes_key and not (options["no_credential"] or values.credential_id or external or values.fetched)
    deployment = options["deployment_name"] or (name if options["deploy"] else None)
    registered = options["registered_model"] or (name if options["register"] or deployment else None)
    return Wanted(
        environment_name=options["environment_name"] or about["name"],
        environment_description=about["description"],
        environment_content=_environment_content(archive, uri, terminal, code_dir),
        image_archive=archive,
        image_uri=uri,
        model_name=name,
        target_name=metadata["inferenceModel"].get("targetName", TARGET_NAME),
        unstructured=metadata["targetType"] == "unstructured",
        model_files=tuple(model_files(options["model_dir"])),
        parameters=values.parameters,
        credential_name=options["credential_name"] if with_key else None,
        credential_id=values.credential_id,
        egress=options["egress"].upper(),
        resource_bundle=options["resource_bundle"],
        gpus=(0 if external else 1) if options["gpus"] is None else options["gpus"],
        registered_model=registered,
        deployment=deployment,
        prediction_environment=options["prediction_environment"],
        replace=options["replace"],
    )


def _environment_content(archive: Path | None, uri: str | None, terminal: Terminal, code_dir: Path) -> str:
    """An image is known by itself, whatever the context beside it: DataRobot keeps that for information only."""
    if uri is not None:
        return fingerprint([], "uri", uri)
    if archive is not None:
        saved = read_saved_image(archive)
        image = saved.id if saved else sha256_of(archive, terminal.bytes("checksum", archive.stat().st_size))
        return fingerprint([], "image", image.removeprefix("sha256:"))
    return fingerprint(context_files(code_dir))


def _unknown_bundle(wanted: Wanted) -> ResourceBundle | None:
    if wanted.resource_bundle is None and wanted.gpus == 0:
        return None
    return ResourceBundle("to be looked up", wanted.resource_bundle or f"the smallest with {wanted.gpus} GPUs")


def _ask_key(terminal: Terminal, environ: Mapping[str, str]) -> Secret:
    key = environ.get(KEY, "").strip()
    if not key and sys.stdin.isatty():
        key = click.prompt(f"{KEY} (not shown)", hide_input=True, err=True).strip()
        terminal.hide(key)
    if not key:
        raise UploadError(f"Set {KEY}, or give --no-credential where the weights are local.", WRONG_INPUT)
    return Secret(key)


def summary(wanted: Wanted, found: Found, endpoint: str) -> list[str]:
    """What is there now, with its ids."""
    environment, version = environment_version(wanted, found), model_version(wanted, found)
    registered = registered_version(version, found)
    lines = [f"environment   {found.environment_id}, version {environment.id if environment else None}"]
    if version:
        lines.append(f"custom model  {found.model_id}, version {version.id} ({version.number[0]}.{version.number[1]})")
    if wanted.registered_model and registered:
        lines.append(f"registered    {found.registered_model_id}, version {registered.id}")
    if wanted.deployment and found.deployment:
        lines.append(f"deployment    {found.deployment.id} ({found.deployment.status})")
        lines.append(f"chat          {endpoint.rstrip('/')}/deployments/{found.deployment.id}/chat/completions")
    return lines
