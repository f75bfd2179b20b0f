"""The fields of a request: what a text says, and how those of a row, a chat and the parameters come together."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import SettingsError
from nimdrum.base.fields import FIELDS, TAKEN, Number, body_of, merged, with_fields
from nimdrum.base.parameters import read_parameters
from nimdrum.base.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
TOOL = {"type": "function", "function": {"name": "look_up"}}
NAMED = {"type": "function", "function": {"name": "look_up"}}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("max_tokens", " 5.0 ", 5),
        ("max_tokens", "0", None),
        ("temperature", "0", 0),
        ("top_p", "0.9", 0.9),
        ("seed", "0", 0),
        ("logprobs", "3", 3),
        ("logprobs", "0", None),
        ("frequency_penalty", "-2", -2),
        ("stop", "END", ["END"]),
        ("stop", " END", [" END"]),
        ("stop", "[END]", ["[END]"]),
        ("stop", r'["\n", "END"]', ["\n", "END"]),
        ("stop", "[]", None),
        ("tools", json.dumps([TOOL]), [TOOL]),
        ("tools", "[]", None),
        ("tool_choice", " Auto ", "auto"),
        ("tool_choice", '"none"', "none"),
        ("tool_choice", json.dumps(NAMED), NAMED),
        ("extra_body", '{"top_k": 20, "nvext": {"a": null}}', {"top_k": 20, "nvext": {"a": None}}),
    ],
)
def test_what_a_text_says(name: str, text: str, expected: Any) -> None:
    """In a column and as a parameter; None is nothing, which takes away what all rows have."""
    assert FIELDS[name](text) == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("top_p", "0", "is '0'; allowed is a number from 0.0001 to 1"),
        ("top_p", "nan", "is 'nan'"),
        ("seed", "1.5", "allowed is a whole number from 0 to 2147483647"),
        ("seed", "inf", "is 'inf'"),
        ("stop", '["a", ""]', "none is empty"),
        ("stop", '["a", 5]', "none is empty"),
        ("stop", '["a", END]', "is no JSON"),
        ("tools", "{}", "must be a JSON list of tools"),
        ("tools", "[1]", "must be a JSON list of tools"),
        ("tool_choice", "look_up", "is 'look_up'; allowed are none, auto, required, and a JSON object"),
        ("tool_choice", "{", "is no JSON"),
        ("extra_body", "top_k=5", "is no JSON"),
        ("extra_body", "[]", "must be a JSON object"),
        ("extra_body", "[" * 100_000, "is no JSON"),
        ("extra_body", '{"stream": true, "model": "x"}', "names model, stream: it may not say"),
        ("extra_body", '{"temperature": 1}', "names temperature"),
    ],
)
def test_what_cannot_be_is_said(name: str, text: str, words: str) -> None:
    """By the column in the error of its row, and by the parameter at the start."""
    with pytest.raises(ValueError) as wrong:
        FIELDS[name](text)
    assert words in str(wrong.value)
    with pytest.raises(SettingsError, match=f"^Runtime parameter {name} "):
        load_settings(ROOT, {name: text}.get)


@pytest.mark.parametrize("name", FIELDS)
def test_a_column_has_the_bounds_of_its_parameter(name: str) -> None:
    """Those of the project's own list; a text has none."""
    read, parameter = FIELDS[name], read_parameters()[name]
    bounds = (read.low, read.high) if isinstance(read, Number) else (None, None)
    assert (parameter.minimum, parameter.maximum) == bounds


@settings(max_examples=200)
@given(st.sampled_from(sorted(FIELDS)), st.text() | st.sampled_from(['{"a": 1}', "[]", "[{}]", "1", '["a"]']))
def test_any_text_is_read_or_refused_in_words(name: str, text: str) -> None:
    """And what is read can be sent."""
    try:
        value = FIELDS[name](text)
    except ValueError as error:
        assert str(error)
        return
    assert json.loads(json.dumps(body_of({name: value}))) == body_of({name: value})


@pytest.mark.parametrize(
    ("base", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"a": "foo"}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
    ],
)
def test_a_merge_patch(base: Any, patch: Any, expected: Any) -> None:
    """The examples of RFC 7396, appendix A, that an object can be; and nothing that was given is changed."""
    before = json.dumps(base)
    assert merged(base, patch) == expected
    assert json.dumps(base) == before


def test_a_row_counts_more() -> None:
    """Field by field, and of extra_body entry by entry."""
    common = {"seed": 1, "stop": ["a"], "extra_body": {"top_k": 5, "chat_template_kwargs": {"enable_thinking": True}}}
    mine = {"stop": None, "extra_body": {"top_k": None, "chat_template_kwargs": {"enable_thinking": False}}}
    assert body_of(with_fields(common, mine)) == {"seed": 1, "chat_template_kwargs": {"enable_thinking": False}}
    assert body_of(with_fields({}, mine)) == {"chat_template_kwargs": {"enable_thinking": False}}
    assert body_of(with_fields(common, {})) == {"seed": 1, "stop": ["a"], **common["extra_body"]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": None, "temperature": 0}, {"temperature": 0}),
        ({"tool_choice": "auto"}, {}),
        ({"tools": None, "tool_choice": "auto"}, {}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL], "tool_choice": "auto"}),
    ],
)
def test_what_they_are_in_a_request(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """OpenAI's names."""
    assert body_of(fields) == expected


def test_extra_body_cannot_say_what_has_another_place() -> None:
    """So there is one place for each thing, and no order in which they would win."""
    assert set(FIELDS) < TAKEN
