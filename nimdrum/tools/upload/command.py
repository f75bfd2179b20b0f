"""`python -m nimdrum bundle` and `python -m nimdrum upload`."""

import os
from pathlib import Path
from typing import Any

import click

from nimdrum.tools import PROJECT

BUNDLE_DIR = Path("build/bundle")
MODEL_DIR = click.option(
    "--model-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Your model (docs/models.md): all its files but hidden ones.  [default: the project's model-metadata.yaml]",
)


@click.command()
@click.option(
    "--out",
    default=BUNDLE_DIR,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files; made when it is missing, what is in it is replaced.",
)
@click.option("--image", metavar="NAME", help="Also save this image, with docker, podman or buildah.")
@MODEL_DIR
def bundle(out: Path, image: str | None, model_dir: Path | None) -> None:
    """Write what DataRobot needs into files: the Docker context, the model's files, and with --image the built image.

    context.tar.gz is what the Dockerfile copies; model.tar.gz holds the files of --model-dir, or the list of parameters
    alone. Nothing else travels. The same sources give the same archives. SHA256SUMS has the checksums.
    """
    from nimdrum.tools.terminal import Terminal
    from nimdrum.tools.upload.bundle import IMAGE, read_saved_image, write_bundle
    from nimdrum.tools.upload.saved_image import ARCHITECTURE

    terminal = Terminal()
    try:
        files = write_bundle(PROJECT, out, image, terminal.bytes, model_dir)
    finally:
        terminal.close()
    for path, digest in files:
        terminal.say(f"{path.stat().st_size:>15,} bytes  {digest}  {path}")
    saved = read_saved_image(out / IMAGE)
    if saved and saved.architecture != ARCHITECTURE:
        terminal.say(
            f"Warning: the image is built for {saved.architecture}, and DataRobot runs {ARCHITECTURE}. "
            f"Build it with --platform linux/{ARCHITECTURE}.",
            err=True,
        )


INTERRUPTED = 130
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--image-archive", type=FILE, help="The saved image: build/bundle/image.tar.gz.")
@click.option("--image-uri", metavar="URI", help="An image in a registry that DataRobot can reach.")
@click.option("--build", is_flag=True, help="Let DataRobot build the image; it must be able to pull the base image.")
@MODEL_DIR
@click.option("--parameters", type=FILE, help="Values of runtime parameters, as for DRUM's --runtime-params-file.")
@click.option("--name", help="Name of the custom model.  [default: that in model-metadata.yaml]")
@click.option("--environment-name", help="Name of the environment.  [default: that in env_info.json]")
@click.option(
    "--credential-name", default="nimdrum NGC key", show_default=True, help="Name of the credential with the NGC key."
)
@click.option("--no-credential", is_flag=True, help="Use no NGC key: the weights are local.")
@click.option(
    "--egress",
    type=click.Choice(["public", "none"]),
    default="public",
    show_default=True,
    help="What of the network the model may reach. NIM downloads with public only.",
)
@click.option("--resource-bundle", metavar="NAME", help="Resource bundle, by name or id.")
@click.option(
    "--gpus",
    type=click.IntRange(min=0),
    help="Without --resource-bundle: take the smallest bundle with so many GPUs; 0 sets none.  [default: 1]",
)
@click.option("--register", is_flag=True, help="Also register the version, under the model's name.")
@click.option("--registered-model", metavar="NAME", help="The same, under this name.")
@click.option("--deploy", is_flag=True, help="Also register the version, and deploy it under the model's name.")
@click.option("--deployment-name", metavar="NAME", help="The same, under this name.")
@click.option("--replace", is_flag=True, help="With --deploy: give a deployment that is there the new version.")
@click.option(
    "--prediction-environment",
    default="nimdrum",
    show_default=True,
    metavar="NAME",
    help="Prediction environment, by name or id; made, as a serverless one, when it is missing.",
)
@click.option(
    "--max-wait-sec",
    type=click.FloatRange(min=1),
    default=7200,
    show_default=True,
    help="Longest wait for each of: the image's build, the registered version, the deployment.",
)
@click.option("--dry-run", is_flag=True, help="Print the steps and change nothing; works without a token too.")
def upload(**options: Any) -> None:
    """Bring environment and model into DataRobot, and with --deploy into service.

    DATAROBOT_ENDPOINT (it ends in /api/v2) and DATAROBOT_API_TOKEN tell where and who, or drconfig.yaml does. The NGC
    key is taken from NGC_API_KEY, or asked for; it goes into a credential in DataRobot and nowhere else.

    What is there already stays as it is: a second run changes nothing, and a run that was interrupted goes on where it
    ended. Things are found by their names, versions by what they were made of.

    \b
    Exit codes: 0 all is there; 2 an option or file is not usable; 3 no token, or it may not;
    4 DataRobot refuses, or what is there stands in the way; 5 network, DataRobot or a wait failed
    for now: run it again; 6 a build or deployment has failed; 130 interrupted: run it again.
    """
    from nimdrum.base.errors import NimdrumError, UploadError
    from nimdrum.tools.terminal import Terminal
    from nimdrum.tools.upload.context import Patience
    from nimdrum.tools.upload.exit_codes import AGAIN, WRONG_INPUT
    from nimdrum.tools.upload.options import upload_with

    terminal = Terminal()
    try:
        upload_with(options, terminal, os.environ, Patience(max_wait_sec=options["max_wait_sec"]))
    except NimdrumError as error:
        code = error.exit_code if isinstance(error, UploadError) else WRONG_INPUT
        raise UploadError(terminal.masked(str(error)), code) from None
    except (KeyboardInterrupt, click.Abort):  # the second: at the question for the key
        terminal.say(f"Interrupted. {AGAIN}", err=True)
        raise SystemExit(INTERRUPTED) from None
    finally:
        terminal.close()
