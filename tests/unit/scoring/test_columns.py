"""Columns with which a row sets things for itself."""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.scoring.answer import RowFailure
from nimdrum.scoring.columns import COLUMNS, own_columns, own_of
from nimdrum.scoring.request import NOTHING_OWN, Own, Sampling, chat_body, with_own

CALL = [{"role": "assistant", "tool_calls": [{"id": "1"}]}, {"role": "tool", "tool_call_id": "1", "content": "x"}]
ASK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Ok"}]


def own(**cells: str) -> Own | RowFailure:
    return own_of({name: [cell] for name, cell in cells.items()}, 0)


def test_only_columns_that_are_there() -> None:
    """And never the prompt's, whatever it is called; None and NaN are empty."""
    frame = pd.DataFrame({"temperature": ["1", None], "messages": ["", float("nan")], "x": ["1", "2"]}, dtype=object)
    assert own_columns(frame, "messages") == {"temperature": ["1", ""]}
    assert own_columns(frame, "promptText") == {"temperature": ["1", ""], "messages": ["", ""]}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({}, NOTHING_OWN),
        ({"max_tokens": " ", "temperature": ""}, NOTHING_OWN),
        ({"max_tokens": "5"}, Own(fields={"max_tokens": 5})),
        ({"max_tokens": "5.0"}, Own(fields={"max_tokens": 5})),
        ({"temperature": "0"}, Own(fields={"temperature": 0.0})),
        ({"system_prompt": " Be brief. ", "max_tokens": ""}, Own(system_prompt=" Be brief. ")),
        ({"messages": json.dumps(ASK)}, Own(messages=tuple(ASK))),
        ({"messages": json.dumps(CALL)}, Own(messages=tuple(CALL))),
        ({"model": " legal "}, Own(model="legal")),
        ({"model": "datarobot-deployed-llm"}, Own()),
        ({"max_tokens": "0"}, Own(fields={"max_tokens": None})),
        ({"seed": "7", "top_p": "0.5", "stop": "END"}, Own(fields={"seed": 7, "top_p": 0.5, "stop": ["END"]})),
        ({"extra_body": '{"a": null}'}, Own(fields={"extra_body": {"a": None}})),
    ],
)
def test_cells(cells: dict[str, str], expected: Own) -> None:
    """An empty cell is what the settings say."""
    assert own(**cells) == expected


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"max_tokens": "many"}, "max_tokens is 'many'; allowed is a whole number from 0 to 10000000"),
        ({"max_tokens": "-1"}, "max_tokens is '-1'"),
        ({"extra_body": "top_k=5"}, "extra_body is no JSON"),
        ({"max_tokens": "1.5"}, "max_tokens is '1.5'"),
        ({"temperature": "warm"}, "temperature is 'warm'; allowed is a number from 0 to 2"),
        ({"temperature": "nan"}, "temperature is 'nan'"),
        ({"temperature": "2.1"}, "temperature is '2.1'"),
        ({"messages": "Hello"}, "messages is no JSON"),
        ({"messages": "[" * 100_000}, "messages is no JSON"),
        ({"messages": "[]"}, "messages is not a JSON list"),
        ({"messages": '{"role": "user"}'}, "messages is not a JSON list"),
        ({"messages": '[{"role": "user"}]'}, "entry 1 of messages"),
        ({"messages": '[{"role": "user", "content": "a"}, 7]'}, "entry 2 of messages"),
    ],
)
def test_bad_cells_are_errors_of_their_row(cells: dict[str, str], words: str) -> None:
    """With the column, what was seen and what is allowed."""
    failure = own(**cells)
    assert isinstance(failure, RowFailure)
    assert (failure.kind, failure.status) == ("bad_row", 400)
    assert words in failure.message
    assert len(failure.message) < 200


@settings(max_examples=200)
@given(st.fixed_dictionaries({}, optional={name: st.text() | st.just("1") for name in COLUMNS}))
def test_any_cell_has_a_meaning(cells: dict[str, str]) -> None:
    """Never an exception."""
    assert isinstance(own(**cells), Own | RowFailure)


FIELDS = {"max_tokens": 64, "temperature": 0.7, "response_format": {"type": "json_object"}}
SAMPLING = Sampling("llama", "All.", 2, FIELDS)


def test_a_row_overrides_what_it_sets() -> None:
    """And nothing else."""
    assert with_own(SAMPLING, NOTHING_OWN) is SAMPLING
    mine = with_own(SAMPLING, Own(system_prompt="Mine.", fields={"max_tokens": 5, "temperature": 0.0}))
    assert mine == Sampling("llama", "Mine.", 2, {**FIELDS, "max_tokens": 5, "temperature": 0.0})


def test_a_conversation_takes_the_place_of_the_prompt() -> None:
    """With the system prompt before it, unless it has one of its own."""
    system = {"role": "system", "content": "All."}
    assert json.loads(chat_body(SAMPLING, "", 1, ASK))["messages"] == [system, *ASK]
    theirs = [{"role": "system", "content": "Mine."}, *ASK]
    assert json.loads(chat_body(SAMPLING, "", 1, theirs))["messages"] == theirs


def test_the_response_format_is_sent() -> None:
    """As it was set."""
    assert json.loads(chat_body(SAMPLING, "Hi", 1))["response_format"] == {"type": "json_object"}
