"""`nimdrum code-dir`: the code folder that DRUM is given for a user's model (docs/decisions/0008)."""

import hashlib
from pathlib import Path

import click

from nimdrum.base.errors import SettingsError
from nimdrum.base.files import replacing
from nimdrum.base.hosting import read_hosting
from nimdrum.base.own import HOOKS, MODEL_LINK, ROUTES
from nimdrum.base.parameters import METADATA_FILE, PACKAGE, merged_metadata, read_parameters
from nimdrum.base.values import as_variables, read_values
from nimdrum.supervisor.rundir import create_folder

CUSTOM_PY = f"""# Made by `nimdrum code-dir`, each time anew: the hooks of {MODEL_LINK}/{HOOKS}.py, with this project's.
import sys

sys.path.append({str(PACKAGE.parent)!r})

from nimdrum.hooks import door

globals().update(door(__file__))
"""
CUSTOM_FLASK_PY = "from nimdrum.hooks import init_app as init_app\n"
NOT_SEEN = {f"{HOOKS}.py", f"{ROUTES}.py", METADATA_FILE, PACKAGE.name, "__pycache__"}


@click.command("code-dir")
@click.option(
    "--params",
    type=click.Path(path_type=Path),
    help="Look at this file for --runtime-params-file first: DRUM itself ends in a stack where it is broken.",
)
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
def code_dir(model: Path, params: Path | None) -> None:
    """Print a code folder for DRUM's --code-dir, in which the files of MODEL are seen with this project's hooks.

    It is made where it is missing and brought up to date where it is not.
    """
    hosting = read_hosting(model)
    if params is not None:
        defined, values = read_parameters(hosting.code_dir), read_values(params)
        as_variables({name: value for name, value in values.items() if name in defined}, defined)
    create_folder(hosting.state_root)
    click.echo(make_code_dir(hosting.code_dir, hosting.state_root, hosting.environ.get("TARGET_TYPE")))


def make_code_dir(model: Path, root: Path, target_type: str | None = None) -> Path:
    """The code folder for `model` below `root`; the project's own folder is one already. Raises SettingsError."""
    if model == PACKAGE.parent:
        return model
    folder = root / f"{model.name[:40] or 'root'}-{hashlib.sha256(str(model).encode()).hexdigest()[:8]}-code"
    create_folder(folder)
    files = {
        f"{HOOKS}.py": CUSTOM_PY,
        f"{ROUTES}.py": CUSTOM_FLASK_PY,
        METADATA_FILE: merged_metadata(model, target_type),
    }
    links = {path.name: path for path in model.iterdir() if path.name not in NOT_SEEN and path.name[0] != "."}
    links[MODEL_LINK] = model
    try:
        for old in folder.iterdir():
            if old.is_symlink() and old.name not in links:
                old.unlink()
        for name, text in files.items():
            with replacing(folder / name) as part:
                part.write_text(text, encoding="utf-8")
        for name, target in links.items():
            if not (folder / name).is_symlink() or (folder / name).readlink() != target:
                with replacing(folder / name) as part:
                    part.symlink_to(target)
    except OSError as error:
        raise SettingsError(f"The code folder {folder} cannot be made: {error.strerror}.") from error
    return folder
