"""The fields of a request on the fake NIM: each arrives, from a parameter, a column or a chat's default, and what comes back."""

import json
from typing import Any

import openai
import pandas as pd
import pytest
from drum_process import drum_server
from edge_world import REPOSITORY, World
from fake_nim.run import read_lines

from nimdrum.base.errors import ChatError
from nimdrum.scoring.reader import read_rows
from nimdrum.scoring.score import score_frame
from nimdrum.web.chat import complete

TOOLS = [{"type": "function", "function": {"name": "look_up"}}, {"type": "function", "function": {"name": "add"}}]
THINKING_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
GIVEN: dict[str, Any] = {
    "top_p": 0.9,
    "seed": 7,
    "stop": '["END", "\\n\\n"]',
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "logprobs": 2,
    "tools": json.dumps(TOOLS),
    "tool_choice": "none",
    "extra_body": '{"top_k": 20, "nvext": {"a": 1}, "priority": 3}',
}
SENT: dict[str, Any] = {
    "top_p": 0.9,
    "seed": 7,
    "stop": ["END", "\n\n"],
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "logprobs": True,
    "top_logprobs": 2,
    "tools": TOOLS,
    "tool_choice": "none",
    "top_k": 20,
    "nvext": {"a": 1},
    "priority": 3,
    "max_tokens": 1024,
}


def frame_of(prompts: list[str], **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"promptText": prompts, **columns}, dtype=object)


def fields_of(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


def pictures(*urls: str) -> str:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return json.dumps([{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}])


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_every_field_arrives(world: World, line: str) -> None:
    """From parameters and from columns, on both lines of NIM; 1.x refuses what it does not know, so nothing else is sent."""
    world.fake(line=line, record_requests=True)
    out = score_frame(frame_of(["a"]), world.ready_model(**GIVEN))
    columns = {name: ["", str(value)] for name, value in GIVEN.items()}
    by_row = score_frame(frame_of(["b", "c"], **columns), world.ready_model(per_row_columns=True))
    assert set(out["row_error"]) | set(by_row["row_error"]) == {""}
    sent = {request["body"]["messages"][-1]["content"]: fields_of(request["body"]) for request in world.requests()}
    assert sent == {"a": SENT, "b": {"max_tokens": 1024}, "c": SENT}


def test_a_row_is_laid_on_the_parameters(world: World) -> None:
    """Thinking is switched off for one row, what another takes away is gone, and a bad cell costs its row."""
    world.fake(line="2.x", reasoning="Hm.", record_requests=True)
    columns = {
        "extra_body": ["", json.dumps(THINKING_OFF), '{"top_k": null}', '{"stream": true}'],
        "stop": ["", "", "[]", ""],
    }
    model = world.ready_model(per_row_columns=True, stop="END", extra_body='{"top_k": 20}')
    out = score_frame(frame_of(["a", "b", "c", "d"], **columns), model)
    assert out["reasoning"].tolist() == ["Hm.", "", "Hm.", ""]
    assert out["row_error"][3].startswith("bad_row: extra_body names stream")
    sent = {request["body"]["messages"][-1]["content"]: fields_of(request["body"]) for request in world.requests()}
    common = {"max_tokens": 1024, "stop": ["END"], "top_k": 20}
    assert sent == {"a": common, "b": {**common, **THINKING_OFF}, "c": {"max_tokens": 1024}}


def test_what_comes_back(world: World) -> None:
    """A tool call is an answer in its column; a stop text ends one; log probabilities have their column. Each call has the
    same columns, whatever its rows ask for."""
    world.fake(line="2.x", tool_parser=True)
    model = world.ready_model(per_row_columns=True)
    tools, choice = json.dumps(TOOLS), json.dumps({"type": "function", "function": {"name": "add"}})
    columns = {
        "tools": [tools, tools, tools, "", ""],
        "tool_choice": ["", "", choice, "", ""],
        "stop": ["", "", "", "two", ""],
        "logprobs": ["", "", "", "", "1"],
    }
    asked = ["please look_up Paris", "hello", "three", "one two three", "four"]
    out = score_frame(frame_of(asked, **columns), model)
    calls = [json.loads(cell)[0]["function"]["name"] if cell else "" for cell in out["tool_calls"]]
    assert calls == ["look_up", "", "add", "", ""]
    assert out["resultText"].tolist() == ["", "echo: hello", "", "echo: one", "echo: four"]
    assert set(out["row_error"]) == {""}
    assert out["finish_reason"].tolist() == ["tool_calls", "stop", "tool_calls", "stop", "stop"]
    assert [token["token"] for token in json.loads(out["logprobs"][4])["content"]] == ["echo:", " four"]
    assert list(score_frame(frame_of(["plain"]), model).columns) == list(out.columns)


def test_a_row_and_a_chat_choose_an_adapter(world: World) -> None:
    """By the name that the engine lists. One that is not there costs its row, which names those there are; a chat is told
    the same. The list is hardly read, however many rows name an adapter or none that is there."""
    world.fake(line="2.x", adapters=("legal", "medical"), record_requests=True)
    model = world.ready_model(per_row_columns=True)
    served = model.ready().model
    names = ["legal", "", "medical", "nobody", "datarobot-deployed-llm"] * 20
    out = score_frame(frame_of([f"row {i}" for i in range(100)], model=names), model)
    assert 1 <= looks(world) <= 5
    told = f"unknown_model: the engine has no model 'nobody'; there are: {served}, legal, medical"
    assert out["row_error"].tolist() == ["", "", "", told, ""] * 20
    sent = {request["body"]["messages"][-1]["content"]: request["body"]["model"] for request in world.requests()}
    expected = {"legal": "legal", "medical": "medical"}
    assert sent == {f"row {i}": expected.get(name, served) for i, name in enumerate(names) if name != "nobody"}

    ask = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    assert next(complete({**ask, "model": "legal"}, model)).model == "legal"
    with pytest.raises(
        ChatError, match=f"The model `nobody` does not exist. There are: {served}, legal, medical"
    ) as no:
        complete({**ask, "model": "nobody"}, model)
    assert (no.value.status, no.value.error["param"], no.value.error["message"]) == (404, "model", str(no.value))


def looks(world: World) -> int:
    """How often the list of models was read for rows; the supervisor, which reads it too, closes its connections."""
    records = [record for record in read_lines(world.record_dir / "requests.jsonl") if record["path"] == "/v1/models"]
    return sum("connection" not in record["headers"] for record in records)


def test_pictures(world: World) -> None:
    """As data and by address, in rows as in chats; the example is one of them. What is larger than the proxy of NIM 2.x takes
    is an error of its row, of its own kind, which tells the size."""
    world.fake(line="2.x", vision=True, record_requests=True)
    small, large = "data:image/png;base64,AAAA", "data:image/png;base64," + "A" * (3 << 20)
    cells = [pictures(small), pictures("https://example.org/a.png", small), pictures(large), pictures("no address")]
    model = world.ready_model(per_row_columns=True)
    out = score_frame(pd.DataFrame({"messages": cells}, dtype=object), model)
    assert out["resultText"].tolist() == [
        "echo: What is it?\n[picture]",
        "echo: What is it?\n[picture]\n[picture]",
        "",
        "",
    ]
    errors = [error.partition(":")[0] for error in out["row_error"]]
    assert errors == ["", "", "too_large", "refused"]
    assert "the request has 3.0 MB, more than the engine or a proxy before it takes" in out["row_error"][2]
    example = score_frame(read_rows((REPOSITORY / "examples/pictures.csv").read_bytes()), model)
    assert [text.splitlines()[-1] for text in example["resultText"]] == ["[picture]"] * 2
    chat = {"messages": json.loads(cells[1])}
    assert complete(chat, model).choices[0].message.content == "echo: What is it?\n[picture]\n[picture]"
    with pytest.raises(ChatError) as too_large:
        complete({"messages": json.loads(cells[2])}, model)
    assert too_large.value.status == 413


def test_chats_through_drum(world: World) -> None:
    """The caller's fields arrive as they are; with the switch on, the parameters fill in what is left out."""
    world.fake(line="2.x", record_requests=True)
    with drum_server(world, worker_class="gevent", apply_defaults_to_chat=True, **GIVEN) as drum:
        drum.wait_health(200)
        client = openai.OpenAI(base_url=drum.url, api_key="unused", max_retries=0)
        own = {"seed": 1, "tool_choice": "none", "extra_body": {"top_k": 5, "nvext": {"b": 2}}}
        ask = {"model": "datarobot-deployed-llm", "messages": [{"role": "user", "content": "a"}]}
        client.chat.completions.create(**ask, **own)
    body = fields_of(world.requests()[-1]["body"])
    expected = {**SENT, "seed": 1, "top_k": 5, "nvext": {"a": 1, "b": 2}}
    del expected["tools"]
    assert body == expected
