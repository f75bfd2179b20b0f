"""engine_config.json: read, validated, every error said."""

import json
from pathlib import Path

import pytest

from nimdrum.engines.config_file import CONFIG_FILE, read_engine_config
from nimdrum.errors import SettingsError


def write(folder: Path, content: object) -> Path:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / CONFIG_FILE).write_bytes(raw)
    return folder


@pytest.mark.parametrize(
    ("content", "variables"),
    [
        pytest.param({}, {}, id="empty object"),
        pytest.param({"env": {}}, {}, id="no variables"),
        pytest.param({"env": {"A": "text"}}, {"A": "text"}, id="text"),
        pytest.param({"env": {"A": ""}}, {"A": ""}, id="empty text"),
        pytest.param({"env": {"A": 5, "B": 0.5}}, {"A": "5", "B": "0.5"}, id="numbers"),
        pytest.param({"env": {"A": True, "B": False}}, {"A": "1", "B": "0"}, id="booleans are 1 and 0"),
        pytest.param(
            {"env": {"A": '--kv-transfer-config {"a": 1}'}}, {"A": '--kv-transfer-config {"a": 1}'}, id="quotes stay"
        ),
        pytest.param(b'\xef\xbb\xbf{"env": {"A": "b"}}', {"A": "b"}, id="BOM"),
    ],
)
def test_what_is_read(tmp_path: Path, content: object, variables: dict[str, str]) -> None:
    """Values become the text that an environment can hold."""
    assert read_engine_config(write(tmp_path, content)) == variables


def test_no_file_is_no_variables(tmp_path: Path) -> None:
    """The file is the user's choice."""
    assert read_engine_config(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"{", "not readable JSON", id="broken JSON"),
        pytest.param(b"", "not readable JSON", id="empty file"),
        pytest.param(b'{"env": {"A": "caf\xe9"}}', "not readable JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "not readable JSON", id="nested without end"),
        pytest.param([], "must be an object", id="a list"),
        pytest.param({"env": ["A=1"]}, "must be an object", id="env is a list"),
        pytest.param({"env": None}, "must be an object", id="env is null"),
        pytest.param({"A": "1"}, "unknown keys A; allowed is env", id="variables beside env"),
        pytest.param({"env": {}, "b": 1, "a": 1}, "unknown keys a, b", id="unknown keys"),
        pytest.param({"env": {"A": None}}, "A a value of type NoneType", id="null"),
        pytest.param({"env": {"A": ["b"]}}, "A a value of type list", id="list"),
        pytest.param({"env": {"A": {"b": 1}}}, "A a value of type dict", id="object"),
        pytest.param({"env": {"": "b"}}, "no name for an environment variable", id="empty name"),
        pytest.param({"env": {"A=B": "b"}}, "no name for an environment variable", id="= in the name"),
        pytest.param({"env": {"A\0": "b"}}, "no name for an environment variable", id="NUL in the name"),
        pytest.param({"env": {"A": "b\0"}}, "A a value with a NUL", id="NUL in the value"),
        pytest.param({"env": {"A": "\ud800"}}, "A", id="a lone surrogate, which no environment can hold"),
        pytest.param(
            {"env": {"NIM_SERVER_PORT": 8000}}, "NIM_SERVER_PORT.*DR_NIM_SERVER_PORT", id="the launcher's port"
        ),
        pytest.param({"env": {"NIM_HEALTH_PORT": 8000}}, "NIM_HEALTH_PORT", id="the launcher's health port"),
        pytest.param({"env": {"NIM_SERVED_MODEL_NAME": "x"}}, "served_model_name", id="the launcher's model name"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: object, words: str) -> None:
    """The error names the file and what is wrong in it."""
    with pytest.raises(SettingsError, match=f"{CONFIG_FILE}.*{words}"):
        read_engine_config(write(tmp_path, content))


@pytest.mark.parametrize("value", [["nvapi-do-not-show-me"], "nvapi-do-not-show-me\0"], ids=["list", "NUL"])
def test_a_refused_value_is_not_shown(tmp_path: Path, value: object) -> None:
    """It may be a key."""
    with pytest.raises(SettingsError) as caught:
        read_engine_config(write(tmp_path, {"env": {"NGC_API_KEY": value}}))
    assert "nvapi-do-not-show-me" not in str(caught.value)


@pytest.mark.parametrize(
    "name", "NGC_API_KEY HF_TOKEN AWS_SECRET_ACCESS_KEY MY_PASSWORD hf_token MODELSCOPE_API_TOKEN".split()
)
def test_values_with_a_secret_name_are_masked_in_logs(tmp_path: Path, name: str) -> None:
    """The engine might print them."""
    assert read_engine_config(write(tmp_path, {"env": {name: "value-1", "OTHER": "value-2"}})).secrets == ("value-1",)


@pytest.mark.parametrize(
    "name", "TOKENIZERS_PARALLELISM NIM_TOKENIZER_MODE NIM_MAX_NUM_BATCHED_TOKENS NIM_MAX_NUM_SEQS".split()
)
def test_values_of_other_names_are_not_masked(tmp_path: Path, name: str) -> None:
    """A masked "0" or "true" would blacken every line of the log, and hide its causes."""
    assert read_engine_config(write(tmp_path, {"env": {name: False}})).secrets == ()


def test_an_empty_secret_masks_nothing(tmp_path: Path) -> None:
    """HF_TOKEN="" is a way to switch a token off."""
    assert read_engine_config(write(tmp_path, {"env": {"HF_TOKEN": ""}})).secrets == ()
