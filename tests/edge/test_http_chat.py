"""The official `openai` client against `drum server` with the real embedded engine, in each server mode."""

import json
from typing import Any

import openai
import pytest
from drum_process import drum_server
from edge_world import READY_SEC, World

pytestmark = [pytest.mark.drum, pytest.mark.engine, pytest.mark.xdist_group("engine")]

SERVED = "datarobot-deployed-llm"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer", "maximum": 999}},
    "required": ["city", "people"],
}
TOOL = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("worker_class", ["", "sync", "gevent"], ids=["werkzeug", "gunicorn sync", "gunicorn gevent"])
def test_the_openai_client(world: World, worker_class: str) -> None:
    """Everything that a client of an OpenAI server expects of a deployment; one server for all of it."""
    with drum_server(world, worker_class=worker_class) as drum:
        drum.wait_health(200)
        client = openai.OpenAI(base_url=drum.url, api_key="unused", timeout=READY_SEC, max_retries=0)
        whole(client)
        streaming(client)
        choices(client)
        names_of_the_model(client)
        fields_go_through(client)
        too_long(client)


def whole(client: openai.OpenAI) -> None:
    """A completion with text, usage and the association id that was given."""
    answer = client.chat.completions.create(model=SERVED, extra_body={"datarobot_association_id": "a-7"}, **ASK)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert (answer.model_extra or {})["datarobot_association_id"] == "a-7"


def streaming(client: openai.OpenAI) -> None:
    """The chunks make the same text as the whole answer; the usage comes last."""
    chunks = list(
        client.chat.completions.create(model=SERVED, stream=True, stream_options={"include_usage": True}, **ASK)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == client.chat.completions.create(model=SERVED, **ASK).choices[0].message.content
    assert len(chunks) > 4
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8


def choices(client: openai.OpenAI) -> None:
    """As many as asked for, streaming and not; log probabilities where asked for."""
    for n in (1, 3):
        answer = client.chat.completions.create(model=SERVED, n=n, logprobs=True, top_logprobs=2, **ASK)
        assert [choice.index for choice in answer.choices] == list(range(n))
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert len((logprobs.content or [])[0].top_logprobs) == 2
    stream = client.chat.completions.create(model=SERVED, n=3, stream=True, **ASK)
    assert {choice.index for chunk in stream for choice in chunk.choices} == {0, 1, 2}


def names_of_the_model(client: openai.OpenAI) -> None:
    """The list, DataRobot's name, an empty one, and a request without one."""
    assert [(model.id, model.object) for model in client.models.list()] == [(SERVED, "model")]
    assert client.chat.completions.create(model="", **ASK).model == SERVED
    bare = client.post("/v1/chat/completions", body=ASK, cast_to=object)  # dict[str, Any] is no class on Python 3.10
    assert isinstance(bare, dict)
    assert bare["model"] == SERVED


def fields_go_through(client: openai.OpenAI) -> None:
    """Tools are accepted, a JSON schema binds the answer, and a field that OpenAI does not know reaches the engine."""
    client.chat.completions.create(model=SERVED, tools=[TOOL], **ASK)  # type: ignore[list-item]
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
    longer = {**ASK, "max_tokens": 200}
    answer = client.chat.completions.create(model=SERVED, response_format=form, **longer)
    parsed = json.loads(answer.choices[0].message.content or "")
    assert set(parsed) == {"city", "people"}
    assert isinstance(parsed["people"], int)
    only = client.chat.completions.create(model=SERVED, extra_body={"grammar": 'root ::= "forty-two"'}, **longer)
    assert only.choices[0].message.content == "forty-two"


def too_long(client: openai.OpenAI) -> None:
    """400 with the engine's own words, streaming or not, and the server goes on."""
    prompt = [{"role": "user", "content": "word " * 5000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="context size") as refused:
            client.chat.completions.create(model=SERVED, stream=stream, **{**ASK, "messages": prompt})
        assert isinstance(refused.value.body, dict)
        assert refused.value.body["type"] == "exceed_context_size_error"
    assert client.chat.completions.create(model=SERVED, **ASK).choices
