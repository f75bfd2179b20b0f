"""The runtime parameter response_format."""

import json
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.fields import read_response_format
from nimdrum.base.settings import load_settings

SCHEMA = {"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"]}
WHOLE = {"type": "json_schema", "json_schema": {"name": "capital", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(SCHEMA, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}, id="schema"),
        pytest.param(WHOLE, WHOLE, id="OpenAI's own form"),
        pytest.param({"type": "json_object"}, {"type": "json_object"}, id="any object"),
        pytest.param({"type": "text"}, {"type": "text"}, id="text"),
    ],
)
def test_what_is_understood(given: Any, expected: Any) -> None:
    """A bare schema is wrapped; OpenAI's object is sent as it is."""
    assert read_response_format(json.dumps(given)) == expected


@pytest.mark.parametrize("text", [None, "", "  "])
def test_empty_is_none(text: str | None) -> None:
    """The model answers freely."""
    assert "response_format" not in load_settings(None, {"response_format": text}.get).fields


@pytest.mark.parametrize(
    "text",
    [
        "json",
        "[]",
        "{}",
        "7",
        "[" * 100_000,
        '{"type": "json_schema"}',
        '{"type": "json_schema", "json_schema": {"name": "a"}}',
    ],
)
def test_what_is_not_is_said_at_load(text: str) -> None:
    """The error names the parameter."""
    with pytest.raises(SettingsError, match=r"^Runtime parameter response_format .*\w\.$"):
        load_settings(None, {"response_format": text}.get)
