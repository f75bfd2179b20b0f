"""`chat_body`: what is sent to the engine, and nothing more."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.settings import load_settings
from nimdrum.scoring.request import Sampling, chat_body, sampling_of

ROOT = Path(__file__).resolve().parents[3]
PLAIN = Sampling("llama", None, 1, {"max_tokens": 64})


@pytest.mark.parametrize(
    ("sampling", "n", "extra"),
    [
        pytest.param(PLAIN, 1, {}, id="only what every engine knows"),
        pytest.param(
            Sampling("llama", None, 1, {"max_tokens": 64, "temperature": 0}),
            1,
            {"temperature": 0},
            id="temperature 0 is sent",
        ),
        pytest.param(Sampling("llama", None, 3, {"max_tokens": 64}), 3, {"n": 3}, id="n"),
        pytest.param(Sampling("llama", None, 3, {"max_tokens": 64}), 1, {}, id="one of n"),
        pytest.param(Sampling("llama", "", 1, {"max_tokens": 64}), 1, {}, id="no system prompt"),
    ],
)
def test_fields(sampling: Sampling, n: int, extra: dict[str, Any]) -> None:
    """NIM 1.x refuses unknown fields, so an unset one is not sent, and it is max_tokens for all."""
    assert json.loads(chat_body(sampling, "Hi", n)) == {
        "model": "llama",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 64,
        **extra,
    }


def test_the_system_prompt_comes_first() -> None:
    """As a message of its own."""
    body = json.loads(chat_body(Sampling("llama", "Be brief.", 1), "Hi", 1))
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_settings_become_sampling() -> None:
    """The model's name is the engine's."""
    settings = load_settings(ROOT, {"system_prompt": "s", "max_tokens": 5, "temperature": 0, "n": 2}.get)
    assert sampling_of(settings, "llama") == Sampling("llama", "s", 2, {"max_tokens": 5, "temperature": 0})


@settings(max_examples=150)
@given(st.text() | st.just("half \ud800"), st.text())
def test_any_prompt_arrives(prompt: str, system: str) -> None:
    """As plain ASCII JSON, so that half a character cannot break the request."""
    body = chat_body(Sampling("llama", system, 1), prompt, 1)
    assert body.isascii()
    assert json.loads(body)["messages"][-1]["content"] == prompt
