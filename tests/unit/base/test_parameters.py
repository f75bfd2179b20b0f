"""`nimdrum.base.parameters`: one raw value becomes a Python value, or an error that says what is allowed."""

import math
from pathlib import Path

import pytest
import yaml
from datarobot_drum.drum.model_metadata import read_model_metadata_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import SettingsError
from nimdrum.base.parameters import METADATA_FILE, Parameter, allowed_numbers, convert, merged_metadata, read_parameters

KEY = "nvapi-do-not-show-me"
NUMBER = Parameter("limit", "numeric", 7, 0, 100, "")
SWITCH = Parameter("switch", "boolean", True, None, None, "")
TEXT = Parameter("text", "string", "fallback", None, None, "")
CREDENTIAL = Parameter("key", "credential", None, None, None, "")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("given_value", "number"),
    [
        pytest.param(5, 5, id="int"),
        pytest.param(5.0, 5, id="whole float"),
        pytest.param("5", 5, id="text"),
        pytest.param(" 5 ", 5, id="text with blanks"),
        pytest.param("5.0", 5, id="whole float as text"),
        pytest.param("1e1", 10, id="exponent"),
        pytest.param(2.5, 2.5, id="fraction"),
        pytest.param("2.5", 2.5, id="fraction as text"),
        pytest.param(0, 0, id="zero"),
        pytest.param(0.0, 0, id="zero float"),
        pytest.param("0", 0, id="zero as text"),
        pytest.param(-0.0, 0, id="minus zero"),
        pytest.param(100, 100, id="highest"),
    ],
)
def test_numbers_come_as_int_float_or_text(given_value: object, number: float) -> None:
    """All three forms that the platform sends are the same number; one without a fraction is an int."""
    converted = convert(NUMBER, given_value)
    assert converted == number
    assert type(converted) is type(number)


@pytest.mark.parametrize("parameter", [NUMBER, SWITCH, TEXT, CREDENTIAL], ids=lambda p: p.type)
@pytest.mark.parametrize("unset", [None, "", "  "], ids=["null", "empty", "blank"])
def test_unset_means_the_default(parameter: Parameter, unset: str | None) -> None:
    """Null and empty are the default for every type, and None where there is none."""
    assert convert(parameter, unset) == parameter.default


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(True, id="true"),
        pytest.param(False, id="false"),
        pytest.param("abc", id="word"),
        pytest.param("5 tokens", id="number with a unit"),
        pytest.param(math.nan, id="nan"),
        pytest.param("nan", id="nan as text"),
        pytest.param(math.inf, id="inf"),
        pytest.param("-inf", id="minus inf as text"),
        pytest.param("1e999", id="overflows to inf"),
        pytest.param(10**400, id="integer beyond every float"),
        pytest.param(-1, id="too low"),
        pytest.param("100.5", id="too high"),
        pytest.param([5], id="list"),
        pytest.param({"n": 5}, id="object"),
    ],
)
def test_what_is_no_number_in_bounds_is_refused(wrong: object) -> None:
    """The error names the parameter, shows the value and says what is allowed."""
    with pytest.raises(SettingsError) as caught:
        convert(NUMBER, wrong)
    text = str(caught.value)
    assert "limit" in text
    assert repr(wrong) in text
    assert "a number from 0 to 100" in text


@settings(max_examples=150)
@given(st.floats(0, 100))
def test_a_number_in_bounds_keeps_its_value_in_every_form(number: float) -> None:
    """As a float or written as text: equal to what was given, and an int exactly when it is whole."""
    for form in (number, repr(number)):
        converted = convert(NUMBER, form)
        assert converted == number
        assert isinstance(converted, int) == number.is_integer()


@pytest.mark.parametrize(
    ("given_value", "switch"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("False", False),
        (" yes ", True),
        ("no", False),
        ("1", True),
        ("0", False),
    ],
    ids=repr,
)
def test_booleans(given_value: object, switch: bool) -> None:
    """A JSON boolean, or the words that people write for it."""
    assert convert(SWITCH, given_value) is switch


@pytest.mark.parametrize("wrong", ["maybe", 2, 0.5, [], {"on": True}], ids=repr)
def test_what_is_no_boolean_is_refused(wrong: object) -> None:
    """The error names the parameter and both words that are allowed."""
    with pytest.raises(SettingsError, match=r"switch.*true and false"):
        convert(SWITCH, wrong)


@pytest.mark.parametrize("text", ["plain", " blanks stay ", "007", "null", "ümlaut 🎉"])
def test_text_stays_as_written(text: str) -> None:
    """Nothing is stripped or guessed."""
    assert convert(TEXT, text) == text


@pytest.mark.parametrize("wrong", [5, 1.5, True, ["a"], {"a": 1}], ids=repr)
def test_what_is_no_text_is_refused(wrong: object) -> None:
    """The error names the parameter and the type that came instead."""
    with pytest.raises(SettingsError, match=f"text must be text, not {type(wrong).__name__}"):
        convert(TEXT, wrong)


@pytest.mark.parametrize("wrong", [KEY, [KEY], 1234567, True], ids=["text", "list", "number", "bool"])
def test_a_wrong_credential_is_refused_without_its_value(wrong: object) -> None:
    """The error names the parameter and shows nothing of what was given."""
    with pytest.raises(SettingsError) as caught:
        convert(CREDENTIAL, wrong)
    assert "key" in str(caught.value)
    assert KEY not in str(caught.value)
    assert "1234567" not in str(caught.value)


@settings(max_examples=200)
@given(st.sampled_from([NUMBER, SWITCH, TEXT, CREDENTIAL]), JSON)
def test_any_json_value_is_converted_or_refused(parameter: Parameter, value: object) -> None:
    """Whatever JSON the platform could send: a value of the parameter's type, or SettingsError with its name."""
    types = {"numeric": (int, float), "boolean": bool, "string": str, "credential": (dict, type(None))}
    try:
        converted = convert(parameter, value)
    except SettingsError as error:
        assert parameter.name in str(error)
    else:
        assert isinstance(converted, types[parameter.type])


@pytest.mark.parametrize(
    ("minimum", "maximum", "words"),
    [
        (None, None, "a number"),
        (0, 2, "a number from 0 to 2"),
        (1, 10_000_000, "a number from 1 to 10000000"),
        (0.5, 65535, "a number from 0.5 to 65535"),
        (0, None, "a number from 0 to any"),
    ],
)
def test_bounds_in_words(minimum: float | None, maximum: float | None, words: str) -> None:
    """Large bounds are written out: nobody should have to read 1e+07."""
    assert allowed_numbers(Parameter("p", "numeric", None, minimum, maximum, "")) == words


def test_definitions_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    """All fields of a definition arrive; a folded description is one line."""
    (tmp_path / METADATA_FILE).write_text(
        "runtimeParameterDefinitions:\n"
        "  - {fieldName: b, type: numeric, defaultValue: 3, minValue: 1, maxValue: 9}\n"
        "  - fieldName: a\n    type: string\n    description: >-\n      two\n\n      lines\n"
    )
    parameters = read_parameters(tmp_path)
    assert list(parameters)[-2:] == ["b", "a"]
    assert parameters["b"] == Parameter("b", "numeric", 3, 1, 9, "")
    assert parameters["a"] == Parameter("a", "string", None, None, None, "two lines")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"a: [", id="broken YAML"),
        pytest.param(b"runtimeParameterDefinitions: text\n", id="text for definitions"),
        pytest.param(b"runtimeParameterDefinitions:\n  - type: string\n", id="definition without a name"),
        pytest.param(b"- a\n", id="a list"),
        pytest.param(b"runtimeParameterDefinitions: caf\xe9\n", id="not UTF-8"),
    ],
)
def test_an_unreadable_file_is_a_settings_error(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with the file, the error names it and says what to do."""
    (tmp_path / METADATA_FILE).write_bytes(content)
    with pytest.raises(SettingsError, match=METADATA_FILE) as caught:
        read_parameters(tmp_path)
    assert "Mend it" in str(caught.value)


@pytest.mark.parametrize("content", ["name: x\n", "runtimeParameterDefinitions:\n"])
def test_a_users_file_without_definitions_is_fine(tmp_path: Path, content: str) -> None:
    (tmp_path / METADATA_FILE).write_text(content)
    assert read_parameters(tmp_path) == read_parameters()


THEIRS = """
name: "007"
type: inference
targetType: textgeneration
majorVersion: true
description: |-
  two
  lines: "quoted" 'twice' # no comment
runtimeParameterDefinitions:
  - fieldName: max_tokens
    type: string
    maxValue: 9
  - fieldName: my_own
    type: numeric
    minValue: 0.5
"""


@pytest.mark.parametrize("theirs", [None, THEIRS, "name: only\n"], ids=["none", "much", "little"])
def test_the_merged_file_is_one_that_drum_takes(tmp_path: Path, theirs: str | None) -> None:
    """By DRUM's own strict schema: all that is theirs, each of our parameters once, and what DRUM demands."""
    if theirs:
        (tmp_path / METADATA_FILE).write_text(theirs)
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / METADATA_FILE).write_text(merged_metadata(tmp_path, None))
    merged = read_model_metadata_yaml(tmp_path / "merged")
    names = [entry["fieldName"] for entry in merged["runtimeParameterDefinitions"]]
    own = ["my_own"] if theirs == THEIRS else []
    assert sorted(names) == sorted([*read_parameters(), *own])
    assert merged["targetType"] == "textgeneration"
    read = yaml.safe_load((tmp_path / "merged" / METADATA_FILE).read_text())
    if theirs == THEIRS:
        assert read["description"] == yaml.safe_load(THEIRS)["description"]
        assert read["name"] == "007"
        assert read["runtimeParameterDefinitions"][0] == {"fieldName": "max_tokens", "type": "numeric", "maxValue": 9}


def test_the_platforms_target_type_counts_where_the_user_says_none(tmp_path: Path) -> None:
    assert yaml.safe_load(merged_metadata(tmp_path, "unstructured"))["targetType"] == "unstructured"
    (tmp_path / METADATA_FILE).write_text(THEIRS)
    assert yaml.safe_load(merged_metadata(tmp_path, "unstructured"))["targetType"] == "textgeneration"
