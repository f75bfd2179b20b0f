"""`nimdrum.settings.load_settings`: every raw value that the platform may send, through a reader that is passed in."""

import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nimdrum.base.errors import SettingsError
from nimdrum.base.fields import FIELDS
from nimdrum.base.parameters import Parameter, read_parameters
from nimdrum.base.settings import LOG_LEVELS, Settings, load_settings, unknown_variables

ROOT = Path(__file__).resolve().parents[3]
PARAMETERS = read_parameters(ROOT)
KEY = "nvapi-do-not-show-me"
WHOLE = (
    "NIM_MAX_MODEL_LEN",
    "max_tokens",
    "seed",
    "logprobs",
    "n",
    "max_concurrency",
    "max_watchdog_restarts",
    "DR_NIM_SERVER_PORT",
)
RENAMED = {
    "NIM_MAX_MODEL_LEN": "max_model_len",
    "DRUM_OPENAI_CLIENT_TIMEOUT": "client_timeout_sec",
    "NIM_DIRECT_ACCESS_REQUEST_TIMEOUT": "direct_access_timeout_sec",
    "max_watchdog_restarts": "max_restarts",
    "max_watchdog_backoff_sec": "max_backoff_sec",
    "DR_NIM_SERVER_PORT": "server_port",
}
NUMERICS = [p for p in PARAMETERS.values() if p.type == "numeric"]
DEFAULTS = {
    "engine": "auto",
    "ngc_api_key": None,
    "served_model_name": None,
    "model_profile": None,
    "max_model_len": None,
    "log_level": "DEFAULT",
    "system_prompt": "You are a helpful AI assistant. Keep short answers of no more than 2 sentences.",
    "prompt_column": "promptText",
    "max_tokens": 1024,
    "temperature": None,
    "n": 1,
    "extra_output_columns": True,
    "max_concurrency": 0,
    "row_timeout_sec": 1800,
    "client_timeout_sec": 3600,
    "startup_timeout_sec": 3600,
    "max_restarts": 10,
    "max_backoff_sec": 300,
    "server_host": None,
    "server_port": 0,
    "health_route": None,
    "verify_ssl": True,
}


def load(**raw: Any) -> Settings:
    """The settings that these raw values give; all others are not set."""
    return load_settings(ROOT, raw.get)


def setting(settings: Settings, name: str) -> Any:
    """What became of a runtime parameter."""
    return settings.fields.get(name) if name in FIELDS else getattr(settings, RENAMED.get(name, name))


def credential(token: object, **fields: object) -> dict[str, object]:
    return {"credentialType": "api_token", "apiToken": token, **fields}


@pytest.mark.parametrize("unset", [None, "", " "], ids=["missing or null", "empty", "blank"])
def test_nothing_set_gives_the_defaults(unset: str | None) -> None:
    """Missing, null and empty mean the default for every parameter at once; but an empty system prompt is none."""
    settings = load_settings(ROOT, lambda name: unset)
    expected = DEFAULTS if unset is None else {**DEFAULTS, "system_prompt": None}
    assert {name: setting(settings, name) for name in DEFAULTS} == expected


def test_zero_is_unset_as_on_drums_own_road() -> None:
    """n of 0 is one answer, max_tokens of 0 is left to the engine, logprobs of 0 are none."""
    assert (load(n=0).n, load(max_tokens=0, logprobs=0).fields) == (1, {})


@pytest.mark.parametrize("zero", [0, 0.0, "0", "0.0"], ids=repr)
def test_temperature_zero_is_a_value(zero: object) -> None:
    """0 is not "unset": DataRobot's own predictor loses it."""
    assert load(temperature=zero, seed=zero).fields == {"max_tokens": 1024, "temperature": 0, "seed": 0}


@pytest.mark.parametrize("parameter", NUMERICS, ids=lambda p: p.name)
def test_bounds_are_enforced(parameter: Parameter) -> None:
    """Both bounds are allowed in all three forms; one step beyond is refused, with the name and the bounds."""
    assert parameter.minimum is not None and parameter.maximum is not None
    for bound in (parameter.minimum, parameter.maximum):
        if bound == 0 and parameter.name in ("n", "max_tokens", "logprobs"):
            continue  # unset, by the test above
        for form in (bound, float(bound), str(bound)):
            assert setting(load(**{parameter.name: form}), parameter.name) == bound
    for wrong in (parameter.minimum - 1, parameter.maximum + 1):
        with pytest.raises(SettingsError) as caught:
            load(**{parameter.name: wrong})
        assert parameter.name in str(caught.value)
        assert f"from {parameter.minimum} to {parameter.maximum}" in str(caught.value)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_have_no_fraction(name: str) -> None:
    """A fraction is refused with the name; a whole float and its text are the same as the int."""
    for form in (3, 3.0, "3", "3.0"):
        value = setting(load(**{name: form}), name)
        assert value == 3
        assert isinstance(value, int)
    with pytest.raises(SettingsError, match=f"{name}.*whole number"):
        load(**{name: 1.5})


@pytest.mark.parametrize(
    "name",
    ["temperature", "row_timeout_sec", "DRUM_OPENAI_CLIENT_TIMEOUT", "startup_timeout_sec", "max_watchdog_backoff_sec"],
)
def test_other_numbers_may_have_a_fraction(name: str) -> None:
    """Times and temperature."""
    assert setting(load(**{name: "1.5"}), name) == 1.5


@pytest.mark.parametrize("name", [*WHOLE, "temperature"])
def test_a_boolean_is_no_number(name: str) -> None:
    """True is not 1."""
    with pytest.raises(SettingsError, match=name):
        load(**{name: True})


@pytest.mark.parametrize("word", ["auto", " NIM ", "LlamaCpp"])
def test_engine_words(word: str) -> None:
    """It is understood without regard to case and blanks, and arrives as the project writes it."""
    assert load(engine=word).engine == word.strip().lower()


@pytest.mark.parametrize("word", [*LOG_LEVELS, "info", " Warning "])
def test_log_level_words(word: str) -> None:
    """The seven words of NIM 1.x, whose subset 2.x knows; `nim_plan` maps them."""
    assert load(NIM_LOG_LEVEL=word).log_level == word.strip().upper()


@pytest.mark.parametrize(
    ("name", "wrong", "allowed"),
    [("NIM_LOG_LEVEL", "VERBOSE", LOG_LEVELS), ("model_artifacts_target", "both", ("model", "cache"))],
)
def test_unknown_words_are_refused(name: str, wrong: str, allowed: tuple[str, ...]) -> None:
    """The error names the parameter and the value, and lists every allowed word."""
    with pytest.raises(SettingsError, match=name) as caught:
        load(**{name: wrong})
    assert all(word in str(caught.value) for word in (*allowed, wrong))


@pytest.mark.parametrize("name", ["engine", "NIM_LOG_LEVEL", "system_prompt", "DR_NIM_SERVER_HOST"])
def test_text_parameters_refuse_other_types(name: str) -> None:
    """A number where a word belongs is an error, not its text."""
    with pytest.raises(SettingsError, match=name):
        load(**{name: 5})


def test_text_arrives_as_written() -> None:
    """A system prompt may have blanks and lines."""
    assert load(system_prompt=" Be brief.\nPlease. ").system_prompt == " Be brief.\nPlease. "


def test_paths_to_pass_through_are_a_list() -> None:
    """Blanks or commas between them; what would pass nothing because of its * is told."""
    assert load(pass_through_paths=" /slots, v1/x/* ").pass_through_paths == ("slots", "v1/x/*")
    with pytest.raises(SettingsError, match=r"pass_through_paths names 'v1/\*/x'"):
        load(pass_through_paths="slots,v1/*/x")


def test_a_health_route_is_a_path() -> None:
    """One without the slash would ask another host."""
    assert load(DR_NIM_HEALTH_ROUTE="/health").health_route == "/health"
    with pytest.raises(SettingsError, match=r"DR_NIM_HEALTH_ROUTE.*'health'.*start with '/'"):
        load(DR_NIM_HEALTH_ROUTE="health")


@pytest.mark.parametrize(
    "parameter",
    [
        credential(KEY),
        credential(f" {KEY}\n"),
        {"credentialType": "apiToken", "apiToken": KEY},
        credential(KEY, name="mine"),
    ],
    ids=["plain", "with blanks", "DRUM's own word", "with more fields"],
)
def test_the_key_is_taken_and_not_shown(parameter: dict[str, object]) -> None:
    """Without the blanks that come with copying; never in the settings' text."""
    settings = load(NGC_API_KEY=parameter)
    assert settings.ngc_api_key is not None
    assert settings.ngc_api_key.reveal() == KEY
    assert KEY not in repr(settings)
    assert KEY not in f"{settings}"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"credentialType": "basic", "user": "me", "password": KEY}, id="another type of credential"),
        pytest.param(credential("", password=KEY), id="empty token"),
        pytest.param(credential([KEY]), id="token in a list"),
        pytest.param(KEY, id="the bare key"),
    ],
)
def test_a_wrong_key_is_refused_and_never_shown(wrong: object) -> None:
    """Neither the message nor the printed chain of exceptions holds anything of the credential."""
    with pytest.raises(SettingsError, match="NGC_API_KEY") as caught:
        load(NGC_API_KEY=wrong)
    assert KEY not in "".join(traceback.format_exception(caught.value))


OVERLAY = """
name: mine
runtimeParameterDefinitions:
  - fieldName: max_tokens
    type: string
    defaultValue: 7
    maxValue: 9
  - fieldName: temperature
    type: numeric
    description: Mine.
  - fieldName: my_own
    type: string
    defaultValue: here
"""


def test_a_users_list_changes_what_it_defines(tmp_path: Path) -> None:
    """Default and bounds of theirs, our type; what they leave out, or say nothing of, is as in the project's list."""
    (tmp_path / "model-metadata.yaml").write_text(OVERLAY)
    settings = load_settings(tmp_path, lambda name: None)
    assert (settings.fields, settings.n) == ({"max_tokens": 7}, 1)
    with pytest.raises(SettingsError, match="from 0 to 9"):
        load_settings(tmp_path, {"max_tokens": 10}.get)
    parameters = read_parameters(tmp_path)
    assert list(parameters) == [*PARAMETERS, "my_own"]
    assert (parameters["temperature"].maximum, parameters["temperature"].description) == (2, "Mine.")


def test_a_model_without_a_list_has_the_projects(tmp_path: Path) -> None:
    assert load_settings(tmp_path, lambda name: None) == load_settings(ROOT, lambda name: None)


def test_variables_for_what_nothing_defines(tmp_path: Path) -> None:
    """One sentence each, with the nearest name; DRUM's own parameters and the user's are none of them."""
    (tmp_path / "model-metadata.yaml").write_text(OVERLAY)
    environ = {
        f"MLOPS_RUNTIME_PARAM_{name}": "{}" for name in ("temprature", "my_own", "DRUM_SERVER_TYPE", "LLM_ID", "xyzzy")
    }
    assert unknown_variables(tmp_path, environ) == [
        "temprature is not a runtime parameter; did you mean temperature?",
        "xyzzy is not a runtime parameter.",
    ]


@hypothesis_settings(max_examples=100)
@given(
    st.sampled_from(sorted(PARAMETERS)),
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.lists(st.just(KEY), max_size=1)
    | st.just({"apiToken": KEY, "a": 1}),
)
def test_any_raw_value_is_taken_or_refused(name: str, raw: object) -> None:
    """No value of any type gets anything but Settings or a SettingsError that names its parameter."""
    try:
        settings = load(**{name: raw})
    except SettingsError as error:
        assert name in str(error)
        assert name != "NGC_API_KEY" or KEY not in str(error)
    else:
        assert settings.log_level in LOG_LEVELS
