"""Every runtime parameter has an effect: what is read somewhere reaches the request, the plan, or whoever asks for it."""

import ast
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.settings import Settings, load_settings
from nimdrum.scoring.request import Sampling, chat_body, sampling_of

ROOT = Path(__file__).resolve().parents[2]
READ_IN = "base/settings.py"


def used_settings() -> set[str]:
    """Names that some file but the one that reads them takes from a variable or attribute called settings."""
    used = set()
    for path in (ROOT / "nimdrum").rglob("*.py"):
        if path.relative_to(ROOT / "nimdrum").as_posix() != READ_IN:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                    holder = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                    used |= {node.attr} if holder == "settings" else set()
    return used


USED = used_settings() | {field.name for field in dataclasses.fields(Sampling)}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_each_setting_is_used(name: str) -> None:
    """A parameter that is read and then forgotten is a promise to the user that nobody keeps."""
    assert name in USED, (
        f"The setting {name} is read in nimdrum/{READ_IN}, and nothing uses it. A sampling parameter is to be a field of "
        "Sampling in nimdrum/scoring/request.py; any other is to be read where it acts."
    )


def other(value: Any, kind: str) -> Any:
    """Another value of the same type."""
    if "dict" in kind:
        return {"type": "json_object"}
    if "int" in kind or "float" in kind:
        return 7 if value != 7 else 8
    return "Another text."


SAMPLING = [field for field in dataclasses.fields(Sampling) if field.name != "model"]


@pytest.mark.parametrize("field", SAMPLING, ids=lambda field: field.name)
def test_each_sampling_setting_reaches_the_request(field: Any) -> None:
    """From the settings into the JSON that the engine gets, also one that was added after this test was written."""
    settings = load_settings(ROOT, {}.get)
    changed = dataclasses.replace(settings, **{field.name: other(getattr(settings, field.name), str(field.type))})
    bodies = []
    for each in (settings, changed):
        sampling = sampling_of(each, "m")
        bodies.append(chat_body(sampling, "Hi", sampling.n))
    assert bodies[0] != bodies[1], f"{field.name} is a field of Sampling, but chat_body does not send it."
