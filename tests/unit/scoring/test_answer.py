"""`read_answer`: every answer that real engines and proxies give, and any bytes at all."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.engines.wire import clean
from nimdrum.scoring.answer import Answer, Completion, RowFailure, TryAgain, read_answer


def ask(status: int, body: Any = b"", **headers: str) -> Answer:
    """The meaning of one answer; a body that is no bytes is sent as JSON."""
    return read_answer(
        status,
        {name.replace("_", "-").lower(): value for name, value in headers.items()},
        body if isinstance(body, bytes) else json.dumps(body).encode(),
    )


def nested(message: str, kind: str = "BadRequestError", param: str | None = None, code: int = 400) -> dict[str, Any]:
    """vLLM's form, and NIM 2.x's."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def flat(message: str, kind: str = "BadRequestError", param: str | None = None, code: int = 400) -> dict[str, Any]:
    """NIM 1.x's form."""
    return {"object": "error", "message": message, "type": kind, "param": param, "code": code}


def completion(*contents: Any, reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        for i, text in enumerate(contents)
    ]
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": choices, **fields}


USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
TOO_LONG = "This model's maximum context length is 2048 tokens. However, you requested 5031 tokens."


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(completion("Paris.", usage=USAGE), Completion(("Paris.",), "stop", 11, 7), id="one choice"),
        pytest.param(
            completion("a", "b", "c", usage=USAGE), Completion(("a", "b", "c"), "stop", 11, 7), id="n choices"
        ),
        pytest.param(completion("cut", reason="length", usage=USAGE), Completion(("cut",), "length", 11, 7), id="cut"),
        pytest.param(completion("Paris."), Completion(("Paris.",), "stop", None, None), id="no usage"),
        pytest.param(completion("Paris.", usage=None), Completion(("Paris.",), "stop", None, None), id="null usage"),
        pytest.param(completion("Paris.", reason=None), Completion(("Paris.",), None, None, None), id="no reason"),
        pytest.param(
            completion(None, reason="length"),
            Completion(("",), "length", None, None, "the engine returned no text (finish_reason=length)"),
            id="null content",
        ),
        pytest.param(
            completion(""),
            Completion(("",), "stop", None, None, "the engine returned no text (finish_reason=stop)"),
            id="empty content",
        ),
        pytest.param(
            completion(" \n"),
            Completion((" \n",), "stop", None, None, "the engine returned no text (finish_reason=stop)"),
            id="blank content",
        ),
        pytest.param(
            completion("a", None), Completion(("a", ""), "stop", None, None), id="a second choice without text"
        ),
        pytest.param(completion("a\ud800b"), Completion(("a\ufffdb",), "stop", None, None), id="lone surrogate"),
        pytest.param(
            completion("\ud83c\udf89"),
            Completion(("🎉",), "stop", None, None),
            id="a pair of surrogates is a character",
        ),
        pytest.param(
            completion("\0 \r\n é 日本"), Completion(("\0 \r\n é 日本",), "stop", None, None), id="any other text"
        ),
    ],
)
def test_completions(body: dict[str, Any], expected: Completion) -> None:
    """Texts, why it ended, tokens, and why there is no text where there is none."""
    assert ask(200, body) == expected


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        pytest.param(
            404,
            nested("The model `x` does not exist.", "NotFoundError", "model", 404),
            "unknown_model",
            "The model `x` does not exist.",
            id="unknown model",
        ),
        pytest.param(
            400,
            nested("max_tokens must be at least 1, got -1.", param="max_tokens"),
            "refused",
            "max_tokens must be at least 1, got -1.",
            id="max_tokens",
        ),
        pytest.param(
            400,
            nested("max_tokens=999999 cannot be greater than max_model_len=2048", param="max_tokens"),
            "refused",
            "max_tokens=999999",
            id="max_tokens beyond the context",
        ),
        pytest.param(400, nested(TOO_LONG, param="input_tokens"), "too_long", TOO_LONG, id="too long for the context"),
        pytest.param(
            400,
            nested("your prompt contains 9000000 characters", param="input_text"),
            "too_long",
            "your prompt contains",
            id="millions of characters",
        ),
        pytest.param(
            400,
            nested("1 validation error: ...", "Bad Request", "body.max_tokens"),
            "refused",
            "1 validation error",
            id="wrong type",
        ),
        pytest.param(
            400, nested("n must be 1 when using greedy sampling, got 3."), "refused", "n must be 1", id="n with greedy"
        ),
        pytest.param(
            400,
            nested("temperature must be in [0, 2], got 3.0.", param="temperature"),
            "refused",
            "temperature",
            id="temperature",
        ),
        pytest.param(400, nested("x is not a multimodal model"), "refused", "multimodal", id="image"),
        pytest.param(
            400,
            {
                "error": {
                    "code": 400,
                    "message": "request (5031 tokens) exceeds",
                    "type": "exceed_context_size_error",
                    "n_ctx": 2048,
                }
            },
            "too_long",
            "request (5031 tokens)",
            id="llama.cpp, too long",
        ),
        pytest.param(
            400,
            {"error": {"code": 400, "message": "max_tokens", "type": "invalid_request_error"}},
            "refused",
            "max_tokens",
            id="llama.cpp, refused",
        ),
        pytest.param(400, flat("[{'type': 'extra_forbidden'}]"), "refused", "extra_forbidden", id="1.x, unknown field"),
        pytest.param(400, flat(TOO_LONG, param="input_tokens"), "too_long", TOO_LONG, id="1.x, too long"),
        pytest.param(422, {"detail": [{"loc": ["body", "n"], "msg": "bad"}]}, "refused", "bad", id="FastAPI, list"),
        pytest.param(404, {"detail": "Not Found"}, "refused", "Not Found", id="wrong path"),
        pytest.param(405, {"detail": "Method Not Allowed"}, "refused", "Method Not Allowed", id="wrong method"),
        pytest.param(401, {"error": "Unauthorized"}, "refused", "Unauthorized", id="error as text"),
        pytest.param(
            413,
            b"<html><h1>413 Request Entity Too Large</h1></html>",
            "too_large",
            "more than the engine or a proxy before it takes: The engine answered HTTP 413.",
            id="nginx, body too large",
        ),
        pytest.param(404, b"<html>not found</html>", "refused", "The engine answered HTTP 404", id="nginx, wrong path"),
        pytest.param(400, b"", "refused", "The engine answered HTTP 400", id="empty body"),
        pytest.param(400, b"plain\n  words", "refused", "plain words", id="plain text"),
        pytest.param(400, b"[]", "refused", "[]", id="a list"),
        pytest.param(400, b"null", "refused", "null", id="null"),
        pytest.param(400, {"error": {}}, "refused", "error", id="an empty error"),
        pytest.param(400, nested("half a \ud83c"), "refused", "half a \ufffd", id="lone surrogate"),
    ],
)
def test_what_is_not_tried_again(status: int, body: Any, kind: str, message: str) -> None:
    """The row's own fault: its status, one word for filters and the engine's message."""
    answer = ask(status, body)
    assert isinstance(answer, RowFailure)
    assert (answer.kind, answer.status) == (kind, status)
    assert message in answer.message
    assert str(answer) == f"{kind}: {answer.message}"


CALLS = [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}]
LOGPROBS = {"content": [{"token": "Paris", "logprob": -0.1, "top_logprobs": []}]}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param({"content": None, "tool_calls": CALLS}, {"tool_calls": json.dumps(CALLS)}, id="a call"),
        pytest.param(
            {"content": "I look.", "tool_calls": CALLS},
            {"tool_calls": json.dumps(CALLS), "texts": ("I look.",)},
            id="both",
        ),
        pytest.param({"content": "Hi", "tool_calls": []}, {"texts": ("Hi",)}, id="none called"),
        pytest.param({"content": "Hi", "tool_calls": None}, {"texts": ("Hi",)}, id="null"),
        pytest.param(
            {"content": None, "refusal": "I can't. \ud800"},
            {"refusal": "I can't. \ufffd", "blank_reason": "the engine returned no text (finish_reason=stop)"},
            id="a refusal",
        ),
    ],
)
def test_an_answer_that_is_no_text(message: dict[str, Any], expected: dict[str, Any]) -> None:
    """A tool call is an answer; a refusal is told in the model's words."""
    body = {"choices": [{"message": message, "finish_reason": "stop", "logprobs": LOGPROBS}]}
    whole = {"texts": ("",), "finish_reason": "stop", "prompt_tokens": None, "completion_tokens": None}
    assert ask(200, body) == Completion(**{**whole, "logprobs": json.dumps(LOGPROBS), **expected})


@pytest.mark.parametrize(
    ("status", "body", "kind", "caller"),
    [
        pytest.param(408, b"", "engine_error", 502, id="408"),
        pytest.param(429, nested("slow down", code=429), "rate_limited", 429, id="429"),
        pytest.param(500, b"", "engine_error", 502, id="500, empty"),
        pytest.param(
            500, nested("Internal server error", "InternalServerError", code=500), "engine_error", 502, id="500"
        ),
        pytest.param(502, b"<html><h1>502 Bad Gateway</h1></html>", "engine_error", 502, id="502 of nginx"),
        pytest.param(
            503,
            {"message": "Service in unhealthy", "type": "ServiceUnavailableError"},
            "engine_error",
            502,
            id="503 of 1.x",
        ),
        pytest.param(504, b"<html><h1>504 Gateway Time-out</h1></html>", "engine_error", 502, id="504 of nginx"),
        pytest.param(200, b"", "bad_answer", 502, id="200, empty"),
        pytest.param(200, b"<html>captive portal</html>", "bad_answer", 502, id="200, HTML"),
        pytest.param(200, b'{"choices": [{"mess', "bad_answer", 502, id="200, half"),
        pytest.param(200, {"choices": []}, "bad_answer", 502, id="200, no choices"),
        pytest.param(200, {"choices": None}, "bad_answer", 502, id="200, null choices"),
        pytest.param(200, {"choices": [{}]}, "bad_answer", 502, id="200, no message"),
        pytest.param(200, {"choices": [{"message": None}]}, "bad_answer", 502, id="200, null message"),
        pytest.param(
            200, {"choices": [{"message": {"content": ["a"]}}]}, "bad_answer", 502, id="200, content in parts"
        ),
        pytest.param(200, nested("x"), "bad_answer", 502, id="200, an error"),
        pytest.param(200, b"[" * 100_000, "bad_answer", 502, id="200, nested without end"),
    ],
)
def test_what_may_be_tried_again(status: int, body: Any, kind: str, caller: int) -> None:
    """The engine's fault, or a proxy's: another try may help. A caller whose request fails is told 5xx (429 stays)."""
    answer = ask(status, body)
    assert isinstance(answer, TryAgain)
    assert (answer.failure.kind, answer.failure.status) == (kind, caller)
    assert not answer.engine_dead
    assert answer.failure.message
    assert "<html>" not in answer.failure.message or status == 200


@pytest.mark.parametrize("status", [500, 400], ids=str)
def test_an_error_nested_without_end_is_an_error(status: int) -> None:
    """No body can stop the scorer."""
    assert isinstance(ask(status, b"[" * 100_000), RowFailure | TryAgain)


@pytest.mark.parametrize("usage", [[1], "7", 7, True, {"prompt_tokens": "11", "completion_tokens": {}}], ids=json.dumps)
def test_a_strange_usage_loses_no_answer(usage: Any) -> None:
    """The text is what was paid for; tokens that are no numbers are not told."""
    assert ask(200, completion("Paris.", usage=usage)) == Completion(("Paris.",), "stop", None, None)


@pytest.mark.parametrize(
    ("status", "body", "dead"),
    [
        pytest.param(
            500,
            flat(
                "Engine loop is not running. Inspect the stacktrace to find the original error",
                "InternalServerError",
                code=500,
            ),
            True,
            id="1.x",
        ),
        pytest.param(500, nested("EngineDeadError()", "InternalServerError", code=500), True, id="an exception's name"),
        pytest.param(
            500,
            nested(
                "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                "InternalServerError",
                code=500,
            ),
            True,
            id="vLLM 0.32",
        ),
        pytest.param(500, nested("something else", "InternalServerError", code=500), False, id="another 500"),
        pytest.param(503, nested("Engine loop is not running", code=503), False, id="503"),
    ],
)
def test_a_dead_engine_is_known_by_its_words(status: int, body: Any, dead: bool) -> None:
    """The one case that has no other mark."""
    answer = ask(status, body)
    assert isinstance(answer, TryAgain)
    assert answer.engine_dead is dead


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("1.5", 1.5),
        (" 3 ", 3),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Seconds where it is a sensible number."""
    answer = ask(429, b"", Retry_After=value)
    assert isinstance(answer, TryAgain)
    assert answer.after_sec == seconds


@pytest.mark.parametrize("status", [201, 204, 301, 302, 304, 600, 999])
def test_unusual_statuses_are_failures(status: int) -> None:
    """No engine sends them, so nothing is tried again, and the caller is told 502."""
    answer = ask(status, b"")
    assert isinstance(answer, RowFailure)
    assert answer.status == 502


def test_long_messages_are_cut() -> None:
    """A message goes into a cell of the answer."""
    for body in (nested("x" * 100_000), b"x" * 100_000, flat("x" * 100_000)):
        answer = ask(400, body)
        assert isinstance(answer, RowFailure)
        assert len(answer.message) <= 500


def texts_of(answer: Answer) -> list[str]:
    """All text that can reach a cell of the answer."""
    if isinstance(answer, Completion):
        return [text for text in (*answer.texts, answer.finish_reason, answer.blank_reason) if text is not None]
    failure = answer.failure if isinstance(answer, TryAgain) else answer
    return [failure.kind, failure.message]


def check(answer: Answer) -> None:
    """What DRUM needs: text that UTF-8 can hold, and numbers or nothing for tokens."""
    for text in texts_of(answer):
        assert isinstance(text, str)
        text.encode("utf-8")
    if isinstance(answer, Completion):
        assert answer.texts
        for tokens in (answer.prompt_tokens, answer.completion_tokens):
            assert tokens is None or type(tokens) is int


STATUSES = st.sampled_from([200, 200, 400, 404, 413, 429, 500, 503]) | st.integers(100, 599)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["message", "content", "error", "detail", "param", "type", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(STATUSES, st.binary(max_size=80), st.text(max_size=10))
def test_any_bytes_have_a_meaning(status: int, body: bytes, after: str) -> None:
    """Never an exception, whatever comes."""
    check(read_answer(status, {"retry-after": after}, body))


@settings(max_examples=200)
@given(STATUSES, VALUES)
def test_any_json_has_a_meaning(status: int, body: Any) -> None:
    """Errors of every shape, with every character."""
    check(ask(status, body))


@settings(max_examples=200)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"message": st.fixed_dictionaries({"content": st.none() | st.text(st.characters()) | VALUES})},
            optional={"finish_reason": VALUES},
        ),
        max_size=3,
    ),
    VALUES | st.fixed_dictionaries({"prompt_tokens": VALUES, "completion_tokens": VALUES}),
)
def test_any_completion_has_a_meaning(choices: list[Any], usage: Any) -> None:
    """Odd contents, reasons and usages cost at most this row."""
    check(ask(200, {"choices": choices, "usage": usage}))


@settings(max_examples=150)
@given(st.text(st.characters()))
def test_clean_text_is_utf8(text: str) -> None:
    """Good text stays as it is, and cleaning twice is cleaning once."""
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text


@pytest.mark.parametrize("body", [b"Traceback (most recent call last):\n  File x", {"error": "Traceback (most\n  x"}])
def test_a_stack_of_the_engine_is_no_row_error(body: Any) -> None:
    """Rows and chats are told the same: that it failed, and nothing of its inside."""
    answer = ask(500, body)
    assert isinstance(answer, TryAgain)
    assert answer.failure.message == "The engine answered HTTP 500."
