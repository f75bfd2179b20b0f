"""engine_config.json: read, validated, every error said."""

import json
import re
import shlex
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.errors import SettingsError
from nimdrum.engines.config_file import (
    CONFIG_FILE,
    PASSTHROUGH,
    EngineConfig,
    read_engine_config,
)
from nimdrum.engines.verdicts import flag_rule


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
    assert read_engine_config(write(tmp_path, content)).env == variables


def test_no_file_is_no_variables(tmp_path: Path) -> None:
    """The file is the user's choice."""
    assert read_engine_config(tmp_path) == EngineConfig({}, ())


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
        pytest.param({"A": "1"}, "unknown keys A; allowed are args, env", id="variables beside env"),
        pytest.param({"env": {}, "b": 1, "a": 1}, "unknown keys a, b", id="unknown keys"),
        pytest.param(b'{"env": {"A": 1, "A": 2}}', "A twice", id="a variable twice"),
        pytest.param(b'{"env": {}, "env": {}}', "env twice", id="env twice"),
        pytest.param(b'{"env": {"A": 1e999}}', "A a value that is no finite number", id="infinite"),
        pytest.param(b'{"env": {"A": NaN}}', "A a value that is no finite number", id="NaN"),
        pytest.param(b'{"\\ud800": 1}', r"unknown keys \?", id="a key that cannot be printed"),
        pytest.param({"env": {"\ud800": "b"}}, "no name for an environment variable", id="a surrogate in the name"),
        pytest.param({"args": "--x 1"}, "no list of texts", id="args is text"),
        pytest.param({"args": ["--x", 1]}, "no list of texts", id="a number in args"),
        pytest.param({"args": None}, "no list of texts", id="args is null"),
        pytest.param({"args": ["--x", "a\0b"]}, "argument 2 of args a value with a NUL", id="NUL in args"),
        pytest.param({"args": ["--x", "\ud800"]}, "argument 2 of args", id="a surrogate in args"),
        pytest.param({"args": ["some/model"]}, "do not begin with a flag", id="args begin with a model"),
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


@pytest.mark.parametrize(
    ("args", "secrets"),
    [
        pytest.param(["--hf-token", "value-1", "--seed", "7"], ("value-1",), id="as the next argument"),
        pytest.param(["--hf_token=value-1"], ("value-1",), id="behind ="),
        pytest.param(["--max-num-batched-tokens", "64", "--tokenizer", "x"], (), id="other names"),
        pytest.param(["--hf-token", "--seed"], (), id="a flag without its value"),
    ],
)
def test_secret_flags_are_masked_in_logs(tmp_path: Path, args: list[str], secrets: tuple[str, ...]) -> None:
    """In args, and the same in the variable that they become."""
    assert read_engine_config(write(tmp_path, {"args": args})).secrets == secrets
    assert read_engine_config(write(tmp_path, {"env": {PASSTHROUGH: " ".join(args)}})).secrets == secrets


def test_args_reach_nim_2_with_their_quotes() -> None:
    """One variable holds them all; a shell's reader gets the same list back."""
    args = ("--max-num-seqs", "64", "--compilation-config", '{"cudagraph_mode": "FULL"}')
    env = EngineConfig({}, args).nim_env(2)
    assert env == {PASSTHROUGH: """--max-num-seqs 64 --compilation-config '{"cudagraph_mode": "FULL"}'"""}


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@given(st.lists(TEXTS.map(lambda text: f"--x{text}"), max_size=5), st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_what_is_written_is_what_nim_gets(args: list[str], env: dict[str, str]) -> None:
    """Any flags come out of the variable as they went in, and any variables as they are."""
    env = {f"X_{name}": value for name, value in env.items() if "=" not in name}
    with tempfile.TemporaryDirectory() as folder:
        config = read_engine_config(write(Path(folder), {"args": args, "env": env}))
    variables = config.nim_env(3)
    assert shlex.split(variables.pop(PASSTHROUGH, "")) == args
    assert variables == env


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=40) | st.fixed_dictionaries({}, optional={"env": JSON, "args": JSON, "x": JSON}) | JSON)
def test_any_file_is_read_or_refused_in_words(content: object) -> None:
    """Nothing but a SettingsError comes out, with a text that can be printed; what is read fits an environment."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            env = read_engine_config(write(Path(folder), content)).nim_env(2)
        except SettingsError as error:
            assert str(error).encode()
        else:
            assert all(b"\0" not in (name + value).encode() for name, value in env.items())


def test_nim_1_takes_no_args() -> None:
    """Its engines are configured by variables only."""
    with pytest.raises(SettingsError, match=r"has args.*NIM 1\.x"):
        EngineConfig({}, ("--seed", "7")).nim_env(1)


def test_args_in_two_places_are_refused() -> None:
    """Which of them wins is nobody's guess."""
    with pytest.raises(SettingsError, match=f"both args and {PASSTHROUGH}"):
        EngineConfig({PASSTHROUGH: "--seed 7"}, ("--seed", "7")).nim_env(2)


OWNED_FLAGS = [
    *"--port --host --uds --served-model-name --model --model-path --api-key --root-path".split(),
    *"--ssl-keyfile --ssl-certfile --ssl-ca-certs --enable-ssl-refresh".split(),
]
HOPELESS_FLAGS = "--headless --grpc --nnodes --node-rank --master-addr --dist-init-addr --dry-run".split()


@pytest.mark.parametrize("flag", [*OWNED_FLAGS, *HOPELESS_FLAGS])
def test_flags_with_which_nothing_would_work_are_refused(flag: str) -> None:
    """In args and in the variable, with = and with underscores; the reason is said, the value is not."""
    rule = flag_rule(flag)
    assert rule is not None
    assert rule.note
    why = "the launcher owns" if flag in OWNED_FLAGS else "the engine cannot work here"
    for args in ([flag, "value-1"], [f"{flag}=value-1"], [f"--{flag[2:].replace('-', '_')}", "value-1"]):
        for config in (EngineConfig({}, tuple(args)), EngineConfig({PASSTHROUGH: shlex.join(args)})):
            with pytest.raises(SettingsError, match=f"sets {flag}, .*{why}: {re.escape(rule.note)}") as e:
                config.nim_env(2)
            assert "value-1" not in str(e.value)


def test_a_config_prints_no_value() -> None:
    """Any of them may be a key."""
    assert "value-1" not in repr(EngineConfig({"A": "value-1"}, ("--a", "value-1")))
