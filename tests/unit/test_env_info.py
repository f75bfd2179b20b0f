"""DataRobot's description of the environment: the fields that its own environments have, and versions that are true."""

import json
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TYPES = {
    "id": str,
    "name": str,
    "description": str,
    "programmingLanguage": str,
    "label": str,
    "environmentVersionId": str,
    "environmentVersionDescription": str,
    "isPublic": bool,
    "isDownloadable": bool,
    "useCases": list,
    "contextUrl": str,
    "imageRepository": str,
    "tags": list,
}
"""Seen in the env_info.json files of datarobot-user-models, public_dropin_environments."""

INFO = json.loads((REPOSITORY / "env_info.json").read_text(encoding="utf-8"))


def test_fields_and_their_types() -> None:
    assert {name: type(value) for name, value in INFO.items()} == TYPES
    assert INFO["programmingLanguage"] == "python"
    assert INFO["useCases"] == ["customModel"]


def test_ids_are_object_ids() -> None:
    for name in ("id", "environmentVersionId"):
        assert re.fullmatch(r"[0-9a-f]{24}", INFO[name])
    assert INFO["environmentVersionId"] in INFO["tags"]


def test_versions_are_those_of_the_project_and_the_lock() -> None:
    ours = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    drum = re.search(
        r"^datarobot-drum==(\S+)", (REPOSITORY / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert ours is not None and drum is not None
    assert INFO["environmentVersionDescription"] == f"nimdrum {ours[1]}, datarobot-drum {drum[1]}"
    assert f"v{ours[1]}-latest" in INFO["tags"]


def test_no_package_of_a_checkout_has_hooks() -> None:
    """DRUM looks into .venv too, and refuses a code folder with a second custom.py: a build backend once brought two."""
    folders = {Path(path) for path in sys.path if path.endswith("site-packages")}
    assert [hook for folder in folders for hook in folder.rglob("custom.py")] == []
