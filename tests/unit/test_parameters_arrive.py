"""Every runtime parameter has an effect: what is read somewhere reaches the request, the plan, or whoever asks for it."""

import ast
import dataclasses
from pathlib import Path

import pytest

from nimdrum.base.fields import FIELDS
from nimdrum.base.settings import Settings, load_settings
from nimdrum.scoring.request import chat_body, sampling_of

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


USED = used_settings()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_each_setting_is_used(name: str) -> None:
    """A parameter that is read and then forgotten is a promise to the user that nobody keeps."""
    assert name in USED, (
        f"The setting {name} is read in nimdrum/{READ_IN}, and nothing uses it. What goes into each request is to be a row "
        "of FIELDS in nimdrum/base/fields.py; any other is to be read where it acts."
    )


TEXTS = {
    "stop": "END",
    "response_format": '{"type": "json_object"}',
    "tools": '[{"type": "function"}]',
    "tool_choice": "required",
    "extra_body": '{"top_k": 20}',
    "system_prompt": "Another text.",
}


@pytest.mark.parametrize("name", [*FIELDS, "system_prompt", "n"])
def test_each_parameter_of_a_request_reaches_it(name: str) -> None:
    """From the parameter into the JSON that the engine gets, also one that was added after this test was written."""
    before = {"tools": '[{"type": "function", "function": {}}]'}
    bodies = []
    for given in (before, {**before, name: TEXTS.get(name, 1 if name != "n" else 2)}):
        sampling = sampling_of(load_settings(ROOT, given.get), "m")
        bodies.append(chat_body(sampling, "Hi", sampling.n))
    assert bodies[0] != bodies[1], f"{name} is a row of FIELDS, but chat_body does not send it."
