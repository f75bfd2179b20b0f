"""`nimdrum.base.values`: what a person gives is read, or refused in one sentence that shows no key."""

import json
from pathlib import Path

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.parameters import read_parameters
from nimdrum.base.values import as_variables, read_assignments, read_values, strangers

KEY = "nvapi-made-up-key"
PARAMETERS = read_parameters()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"n: 1\nNGC_API_KEY: [{KEY}\n", "is no YAML at line 3, column 1: write lines of the form"),
        (f"NGC_API_KEY: *{KEY}\n", "is no YAML at line 1, column 14"),
        ("n: 1\n\tmax_tokens: 5\n", "line 2, column 1"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- n\n", "must hold lines of the form 'max_tokens: 200'"),
        ("5: x\n", "must hold lines"),
        ("n: !!python/name:os.system x\n", "is no YAML at line 1"),
    ],
)
def test_a_file_that_is_no_list_of_values(tmp_path: Path, text: str, words: str) -> None:
    """Line and column, and nothing of what stands there."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"params\.yaml") as refused:
        read_values(path)
    assert words in str(refused.value)
    assert KEY not in str(refused.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, another encoding."""
    (tmp_path / "latin").write_bytes(b"n: \xe4\n")
    for name, words in (("missing", "No such file"), (".", "Is a directory"), ("latin", "no text in UTF-8")):
        with pytest.raises(SettingsError, match=words):
            read_values(tmp_path / name)


def test_assignments() -> None:
    """The first = divides; a key has no place on a command line."""
    assert read_assignments(["n=2", "system_prompt=a=b", "served_model_name="], PARAMETERS) == {
        "n": "2",
        "system_prompt": "a=b",
        "served_model_name": "",
    }
    with pytest.raises(SettingsError, match="has no value: write --set name=value"):
        read_assignments(["max_tokens"], PARAMETERS)
    with pytest.raises(SettingsError, match="does not belong on a command line") as refused:
        read_assignments([f"NGC_API_KEY={KEY}"], PARAMETERS)
    assert KEY not in str(refused.value)


def test_names_that_nothing_defines() -> None:
    """With the nearest one that something does; DRUM's own are DRUM's."""
    assert strangers(["n", "max_token", "DRUM_SERVER_TYPE"], PARAMETERS) == [
        "max_token is not a runtime parameter; did you mean max_tokens?"
    ]


def test_variables_as_datarobot_sets_them() -> None:
    """Typed, text from a command line too; what is empty stays unset, but for a text, where empty is a value."""
    made = as_variables({"max_tokens": "40", "system_prompt": "", "verifySSL": "no", "temperature": None}, PARAMETERS)
    assert {name: json.loads(value) for name, value in made.items()} == {
        "MLOPS_RUNTIME_PARAM_max_tokens": {"type": "numeric", "payload": 40},
        "MLOPS_RUNTIME_PARAM_system_prompt": {"type": "string", "payload": ""},
        "MLOPS_RUNTIME_PARAM_verifySSL": {"type": "boolean", "payload": False},
    }
