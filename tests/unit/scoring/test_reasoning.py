"""What a model thought is kept apart from what it answered."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.scoring.answer import Completion, read_answer, split_thinking


def ask(split: bool = True, tokens: int | None = 64, reason: str = "stop", **message: Any) -> Completion:
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens}}
    body = {"choices": [{"message": message, "finish_reason": reason}], **usage}
    answer = read_answer(200, {}, json.dumps(body).encode(), split)
    assert isinstance(answer, Completion)
    return answer


@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        ("<think>\nHm.\n</think>\n\nParis.", "Paris.", "Hm."),
        ("  <think>Hm.</think>Paris.", "Paris.", "Hm."),
        ("Hm.\n</think>\n\nParis.", "Paris.", "Hm."),
        ("<think>Hm, and then", "", "Hm, and then"),
        ("<think></think>Paris.", "Paris.", ""),
        ("Paris.", "Paris.", ""),
        ("", "", ""),
        ("Write <think> and </think> around it.", "Write <think> and </think> around it.", ""),
        ("Write <think>", "Write <think>", ""),
    ],
)
def test_think_blocks(text: str, answer: str, thinking: str) -> None:
    """At the beginning, closed or cut, with the opening mark in the prompt or not; marks inside an answer are text."""
    assert split_thinking(text) == (answer, thinking)


@settings(max_examples=150)
@given(st.text())
def test_other_text_stays_as_it_is(text: str) -> None:
    """Without the marks nothing is touched."""
    if "<think>" not in text and "</think>" not in text:
        assert split_thinking(text) == (text, "")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_the_engines_own_field(field: str) -> None:
    """Older and newer engines name it differently."""
    answer = ask(content="Paris.", **{field: "Hm."})
    assert (answer.texts, answer.reasoning, answer.blank_reason) == (("Paris.",), "Hm.", None)


def test_without_the_switch_the_answer_is_what_came() -> None:
    """Also its think block."""
    answer = ask(split=False, content="<think>Hm.</think>Paris.", reasoning="x")
    assert (answer.texts, answer.reasoning) == (("<think>Hm.</think>Paris.",), "")


@pytest.mark.parametrize(
    "message", [{"content": None, "reasoning_content": "Hm"}, {"content": "<think>Hm"}], ids=["field", "inline"]
)
def test_all_tokens_went_to_reasoning(message: dict[str, Any]) -> None:
    """An answer without text says so, and what to do about it."""
    answer = ask(reason="length", **message)
    assert answer.blank_reason == "all 64 tokens went to reasoning (finish_reason=length); raise max_tokens"
    assert answer.reasoning == "Hm"
