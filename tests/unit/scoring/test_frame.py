"""`assemble`: one row out for each row in, the answer first, the rest beside it."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import RowsFailedError, SettingsError
from nimdrum.base.settings import load_settings
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.frame import EMPTY_PROMPT, EXTRA_COLUMNS, WHERE_ASKED, assemble, check_target, columns_asked
from nimdrum.scoring.row import Result

PARIS = Completion(("Paris.",), "stop", 11, 7)
THREE = Completion(("a", "b", "c"), "stop", 11, 7)
BLANK = Completion(("",), "length", 11, 64, "the engine returned no text (finish_reason=length)")
REFUSED = RowFailure("refused", "no such model", 404)
TOO_LONG = RowFailure("too_long", "too many tokens", 400)
DOWN = RowFailure("engine_down", "could not be reached", 503)
LIMITED = RowFailure("rate_limited", "slow down", 429)


def rows(*results: Result, n: int = 1, extra: bool = True) -> list[dict[str, Any]]:
    frame = assemble(results, "resultText", n, extra)
    assert list(frame.index) == list(range(len(results)))
    assert all(pd.api.types.is_object_dtype(dtype) for dtype in frame.dtypes)
    return frame.to_dict("records")


def row(
    text: str, error: str = "", reason: str = "", prompt: int | None = None, answer: int | None = None
) -> dict[str, Any]:
    return {
        "resultText": text,
        "row_error": error,
        "finish_reason": reason,
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "latency_sec": None,
        "attempts": 0,
    }


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param([], [], id="no rows"),
        pytest.param([PARIS], [row("Paris.", reason="stop", prompt=11, answer=7)], id="an answer"),
        pytest.param(
            [PARIS, TOO_LONG],
            [row("Paris.", reason="stop", prompt=11, answer=7), row("", "too_long: too many tokens")],
            id="a failed row costs one row",
        ),
        pytest.param(
            [PARIS, DOWN],
            [row("Paris.", reason="stop", prompt=11, answer=7), row("", "engine_down: could not be reached")],
            id="so does an engine that went away",
        ),
        pytest.param(
            [REFUSED, TOO_LONG],
            [row("", "refused: no such model"), row("", "too_long: too many tokens")],
            id="all rows at fault themselves",
        ),
        pytest.param(
            [BLANK],
            [row("", "empty_answer: the engine returned no text (finish_reason=length)", "length", 11, 64)],
            id="an answer without text says why",
        ),
        pytest.param([EMPTY_PROMPT], [row("", f"empty_prompt: {EMPTY_PROMPT.message}")], id="an empty prompt"),
        pytest.param([Completion(("x",), None, None, None)], [row("x")], id="nothing told"),
    ],
)
def test_extra_columns(results: list[Result], expected: list[dict[str, Any]]) -> None:
    """Answer, row error, finish reason and tokens, in the order of the rows."""
    assert rows(*results) == expected


def test_columns_are_in_order() -> None:
    """The answer first; the further choices last; there also when there are no rows."""
    expected = ["resultText", *EXTRA_COLUMNS, "choice_2", "choice_3"]
    assert list(assemble([THREE], "resultText", 3, True).columns) == expected
    assert list(assemble([], "resultText", 3, True).columns) == expected


@pytest.mark.parametrize(
    ("parameters", "columns"),
    [
        ({}, ["reasoning"]),
        ({"split_reasoning": "false"}, []),
        ({"tools": '[{"type": "function"}]'}, ["reasoning", "tool_calls"]),
        ({"logprobs": 2}, ["reasoning", "logprobs"]),
        ({"per_row_columns": True, "split_reasoning": False}, ["tool_calls", "logprobs"]),
    ],
)
def test_columns_that_are_asked_for(parameters: dict[str, Any], columns: list[str]) -> None:
    """By the settings alone, whatever the rows are and were answered: each call has the same."""
    asked = columns_asked(load_settings(None, parameters.get))
    for results in ([], [PARIS], [TOO_LONG, PARIS]):
        frame = assemble(results, "resultText", 2, True, asked)
        assert list(frame.columns) == ["resultText", *EXTRA_COLUMNS, *columns, "choice_2"]


def test_what_nobody_asked_for_is_not_lost() -> None:
    """A tool call without tools is told in the row error; where there is a column for it, it is none."""
    call = Completion(("",), "tool_calls", 11, 7, tool_calls='[{"id": "1"}]')
    assert rows(call)[0]["row_error"] == 'empty_answer: the engine called a tool that nobody offered: [{"id": "1"}]'
    frame = assemble([call], "resultText", 1, True, ["tool_calls"])
    assert frame[["tool_calls", "row_error"]].to_numpy().tolist() == [['[{"id": "1"}]', ""]]


def test_a_model_that_declines_says_so() -> None:
    """In the row error, in its words, beside an answer that is empty; the tokens were paid for."""
    declined = Completion(("",), "stop", 11, 7, "the engine returned no text (finish_reason=stop)", refusal="I can't.")
    assert rows(declined) == [row("", "declined: I can't.", "stop", 11, 7)]


@pytest.mark.parametrize(
    ("result", "choices"),
    [
        pytest.param(THREE, ["a", "b", "c"], id="as many as asked for"),
        pytest.param(PARIS, ["Paris.", "", ""], id="fewer"),
        pytest.param(Completion(("a", "b", "c", "d"), "stop", 1, 1), ["a", "b", "c"], id="more"),
        pytest.param(TOO_LONG, ["", "", ""], id="none"),
    ],
)
def test_choices(result: Result, choices: list[str]) -> None:
    """Each has its column; one that is missing is empty."""
    first = rows(result, PARIS, n=3)[0]
    assert [first["resultText"], first["choice_2"], first["choice_3"]] == choices


def test_without_extra_columns_there_is_one() -> None:
    """Answers only; an answer without text and an empty prompt are empty."""
    assert rows(PARIS, BLANK, EMPTY_PROMPT, extra=False) == [
        {"resultText": "Paris."},
        {"resultText": ""},
        {"resultText": ""},
    ]


@pytest.mark.parametrize(
    ("results", "status", "words"),
    [
        pytest.param(
            [PARIS, TOO_LONG], 400, "1 of 2 rows failed; the first is row 2 with too_long", id="the row's fault"
        ),
        pytest.param(
            [PARIS, DOWN], 503, "1 of 2 rows failed; the first is row 2 with engine_down", id="the engine's fault"
        ),
        pytest.param([TOO_LONG, DOWN, PARIS], 503, "row 2 with engine_down", id="the engine's fault counts more"),
        pytest.param([LIMITED, PARIS], 429, "row 1 with rate_limited", id="too many requests"),
    ],
)
def test_without_extra_columns_a_failed_row_fails_the_request(results: list[Result], status: int, words: str) -> None:
    """With a status that tells whose fault it was, and the number of the row as people count."""
    with pytest.raises(RowsFailedError, match=words) as caught:
        rows(*results, extra=False)
    assert caught.value.status == status
    assert "extra_output_columns" in str(caught.value)


@pytest.mark.parametrize(
    "results", [[DOWN], [DOWN, TOO_LONG], [TOO_LONG, EMPTY_PROMPT, DOWN]], ids=["one", "two", "three"]
)
def test_an_engine_that_answered_nothing_fails_the_request(results: list[Result]) -> None:
    """Also with the extra columns: a file of nothing but errors of the engine is no result."""
    with pytest.raises(RowsFailedError, match="engine_down") as caught:
        rows(*results)
    assert caught.value.status == 503


def test_advice_that_was_followed_is_not_given() -> None:
    """With the extra columns on, nobody is told to switch them on."""
    with pytest.raises(RowsFailedError) as caught:
        rows(DOWN)
    assert "extra_output_columns on" not in str(caught.value)


@pytest.mark.parametrize("extra", [True, False], ids=["with extra columns", "without"])
def test_empty_prompts_never_fail(extra: bool) -> None:
    """DataRobot's own validation sends a file of them."""
    assert [entry["resultText"] for entry in rows(*[EMPTY_PROMPT] * 3, extra=extra)] == ["", "", ""]


@pytest.mark.parametrize("target", [*EXTRA_COLUMNS, *WHERE_ASKED, "choice_2", "choice_3"])
def test_a_target_of_the_name_of_an_extra_column_is_refused(target: str) -> None:
    """The error names it and where it comes from."""
    with pytest.raises(SettingsError, match=f"{target}.*TARGET_NAME.*extra_output_columns"):
        check_target(target, 3)
    with pytest.raises(SettingsError):
        assemble([THREE], target, 3, True)


@pytest.mark.parametrize("target", [*EXTRA_COLUMNS, "choice_2"])
def test_without_extra_columns_every_target_will_do(target: str) -> None:
    """There is nothing to collide with: it is the way out that the error of the other case names."""
    frame = assemble([PARIS], target, 2, False)
    assert frame.to_dict("records") == [{target: "Paris."}]


@pytest.mark.parametrize("target", ["resultText", "choice_4", "Predictions", "my answer"])
def test_other_targets_are_fine(target: str) -> None:
    """choice_4 is no column of ours when n is 3."""
    assert next(iter(assemble([THREE], target, 3, True).columns)) == target


RESULTS = st.lists(st.sampled_from([PARIS, THREE, BLANK, REFUSED, TOO_LONG, DOWN, LIMITED, EMPTY_PROMPT]), max_size=8)


@settings(max_examples=150)
@given(RESULTS, st.integers(1, 4), st.booleans())
def test_one_row_out_for_each_row_in(results: list[Result], n: int, extra: bool) -> None:
    """Or the request fails, and then only for a row that failed; no cell is a gap but a number of tokens."""
    failed = [r for r in results if isinstance(r, RowFailure) and r is not EMPTY_PROMPT]
    try:
        frame = assemble(results, "resultText", n, extra)
    except RowsFailedError as error:
        assert failed
        assert error.status in {r.status for r in failed}
        assert not extra or not any(isinstance(r, Completion) for r in results)
        return
    assert extra or not failed
    assert len(frame) == len(results)
    assert [bool(text) for text in frame["resultText"]] == [
        isinstance(r, Completion) and r is not BLANK for r in results
    ]
    texts = frame.drop(columns=["prompt_tokens", "completion_tokens", "latency_sec", "attempts"], errors="ignore")
    assert all(isinstance(cell, str) for cell in texts.to_numpy().flatten().tolist())
    assert isinstance(frame.index, pd.RangeIndex)
