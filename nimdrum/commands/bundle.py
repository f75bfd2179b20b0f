"""`python -m nimdrum bundle`."""

from pathlib import Path

import click

CODE_DIR = Path(__file__).resolve().parents[2]
BUNDLE_DIR = Path("build/bundle")


@click.command()
@click.option(
    "--out",
    default=BUNDLE_DIR,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files; made when it is missing, what is in it is replaced.",
)
@click.option("--image", metavar="NAME", help="Also save this image, with docker, podman or buildah.")
def bundle(out: Path, image: str | None) -> None:
    """Write what DataRobot needs into files: the Docker context, the model's files, and with --image the built image.

    context.tar.gz is what the Dockerfile copies; model.tar.gz holds the hooks and nimdrum, and engine_config.json where
    there is one. Nothing else travels. The same sources give the same archives. SHA256SUMS has the checksums.
    """
    from nimdrum.base.errors import BundleError
    from nimdrum.commands.progress import Terminal
    from nimdrum.platform.bundle import IMAGE, read_saved_image, write_bundle
    from nimdrum.platform.image import ARCHITECTURE

    terminal = Terminal()
    try:
        files = write_bundle(CODE_DIR, out, image, terminal.bytes)
    except (BundleError, OSError) as error:
        raise click.ClickException(str(error)) from error
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
