"""Chats on the real vLLM, by way of DRUM's server and the official `openai` client; and whether a cancelled one stops."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from drum_process import Drum
from vllm_world import ANSWER_SEC, MODEL, Engine, long_chat

from nimdrum.engines.wire import CHAT_PATH

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture
def client(drum: Drum) -> openai.OpenAI:
    return openai.OpenAI(base_url=drum.url, api_key="unused", timeout=ANSWER_SEC, max_retries=0)


def test_a_stream_is_the_whole_answer(client: openai.OpenAI) -> None:
    """The chunks make the same text; the last token's has the finish reason, the usage comes after it."""
    whole = client.chat.completions.create(**ASK)
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ASK))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len(texts) > 3
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole_usage(whole))


def whole_usage(answer: Any) -> Any:
    """As a stream tells it: without the details."""
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    return type(answer.usage).construct(**{name: getattr(answer.usage, name) for name in counted})


def test_choices_and_log_probabilities(client: openai.OpenAI) -> None:
    """As many as asked for, streaming or not."""
    answer = client.chat.completions.create(**{**ASK, "temperature": 1, "n": 3, "logprobs": True, "top_logprobs": 2})
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert {len(token.top_logprobs) for token in logprobs.content or []} <= {2, 3}  # 3: the one taken, and the two best
    stream = client.chat.completions.create(stream=True, **{**ASK, "temperature": 1, "n": 2})
    assert {choice.index for chunk in stream for choice in chunk.choices} == {0, 1}


def test_a_grammar_of_vllms_own(client: openai.OpenAI) -> None:
    """A field that OpenAI does not know reaches vLLM: the answer is one of the two words."""
    extra = {"structured_outputs": {"choice": ["forty-two", "seven"]}}
    answer = client.chat.completions.create(extra_body=extra, **ASK)
    assert answer.choices[0].message.content in ("forty-two", "seven")


@pytest.mark.parametrize(
    ("fields", "error", "type_", "words"),
    [
        ({"model": "nobody/knows"}, openai.NotFoundError, "NotFoundError", "does not exist"),
        (
            {"messages": [{"role": "user", "content": "word " * 3000}]},
            openai.BadRequestError,
            "BadRequestError",
            "2048",
        ),
        ({"max_tokens": 5000}, openai.BadRequestError, "BadRequestError", "max_model_len"),
        ({"n": 3}, openai.BadRequestError, "BadRequestError", "greedy"),
        ({"temperature": 3}, openai.BadRequestError, "BadRequestError", "temperature"),
        ({"max_tokens": "abc"}, openai.BadRequestError, "Bad Request", "validation error"),
    ],
    ids=["unknown model", "too long", "max_tokens", "n at temperature 0", "temperature", "no number"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_keep_status_and_words(
    client: openai.OpenAI,
    fields: dict[str, Any],
    error: type[openai.APIStatusError],
    type_: str,
    words: str,
    stream: bool,
) -> None:
    """What vLLM refuses the caller is told as vLLM told it, streaming or not."""
    with pytest.raises(error, match=words) as refused:
        client.chat.completions.create(stream=stream, **{**ASK, **fields})
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["type"] == type_


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_frees_the_engine(engine: Engine, drum: Drum, stream: bool) -> None:
    """vLLM stops making tokens of a chat that nobody waits for, through DRUM, our hooks and nginx."""
    where = urlsplit(drum.url)
    connection = http.client.HTTPConnection(where.netloc, timeout=ANSWER_SEC)
    body = json.dumps(long_chat(stream=stream))
    connection.request("POST", CHAT_PATH, body, {"Content-Type": "application/json"})
    if stream:
        answer = connection.getresponse()
        assert b"data: " in answer.readline()
        answer.close()
    engine.wait_for_work(lambda work: bool(work.running))
    connection.close()
    engine.wait_for_work(lambda work: not work.running and not work.waiting)


def test_a_caller_of_rows_who_leaves_frees_the_engine(engine: Engine, drum: Drum) -> None:
    """So it is with /predict/: neither what runs nor what waits is worked on any more."""
    where = urlsplit(drum.url)
    connection = http.client.HTTPConnection(where.netloc, timeout=ANSWER_SEC)
    rows = "promptText\n" + "".join(f"Tell me a long story of {i} pirates.\n" for i in range(200))
    connection.request("POST", "/predict/", rows.encode(), {"Content-Type": "text/csv; charset=utf-8"})
    engine.wait_for_work(lambda work: bool(work.running and work.waiting))
    connection.close()
    engine.wait_for_work(lambda work: not work.running and not work.waiting)


def test_an_id_is_not_refused_when_it_comes_twice(client: openai.OpenAI) -> None:
    """Two chats at once under one X-Request-Id, as of a client that sends again."""
    same = {"X-Request-Id": "same-7"}
    first = client.chat.completions.create(stream=True, extra_headers=same, **{**ASK, "max_tokens": 60})
    assert next(iter(first)).choices
    assert client.chat.completions.create(extra_headers=same, **ASK).choices
    first.close()
