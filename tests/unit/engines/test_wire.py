"""What goes to every engine, and how its refusals are read: one rule for rows and chats."""

import json
from typing import Any

import pytest

from nimdrum.engines.wire import read_error, with_system_prompt

USER = {"role": "user", "content": "Hi"}


NESTED = {"message": "too long", "type": "BadRequestError", "param": "input_tokens", "code": 400}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": NESTED}, NESTED),
        (400, {"object": "error", **NESTED}, NESTED),
        (422, {"detail": "bad"}, {"message": "bad", "type": "invalid_request_error", "param": None, "code": 422}),
        (
            429,
            {"error": "slow down"},
            {"message": "slow down", "type": "invalid_request_error", "param": None, "code": 429},
        ),
    ],
)
def test_errors_of_every_engine_in_one_shape(status: int, body: dict[str, object], expected: dict[str, object]) -> None:
    """Nested, flat, FastAPI's, and a bare sentence."""
    assert read_error(status, json.dumps(body).encode()).for_openai() == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html>x</html>", b"null", b"\xff\xfe", b"[" * 5000, b'{"error": {"message": 5}}']
)
def test_any_error_body_gives_a_sentence(body: bytes) -> None:
    """No body is so strange that the caller learns nothing; a page of a proxy is not shown."""
    error = read_error(413, body)
    assert error.message
    assert "<" not in error.message
    assert error.code == 413


def test_a_stack_of_the_engine_is_not_passed_on() -> None:
    """Of an engine's own failure only the first line is told."""
    assert read_error(500, b'{"error": {"message": "boom\\n  File x"}}').message == "boom"
    assert "File" not in read_error(500, b"Traceback (most recent call last):\n  File x").message


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_conversation_with_instructions_of_its_own_gets_no_others(role: str) -> None:
    """OpenAI calls the same role by two names; two sets of instructions would contradict each other."""
    own = [{"role": role, "content": "Be long."}, USER]
    assert with_system_prompt(own, "Be brief.") == own


@pytest.mark.parametrize("messages", [[USER], [], [5, "x"], [{"role": None}]])
def test_the_system_prompt_comes_first(messages: list[Any]) -> None:
    """Also before what is no message, which is for the engine to judge; an empty prompt is none."""
    assert with_system_prompt(messages, "Be brief.") == [{"role": "system", "content": "Be brief."}, *messages]
    assert with_system_prompt(messages, "") == messages
    assert with_system_prompt(messages, None) == messages
