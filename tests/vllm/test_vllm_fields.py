"""The fields of a request on the real vLLM, by their effect, each set by one row: an engine of its own, that can do it all.

Its weights see, by eyes of random numbers: that a picture arrives is shown, and not what it is of.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from edge_world import REPOSITORY
from vllm_world import PARAMETERS, READY_SEC, Engine, frame_of, vllm_world

from nimdrum.scoring.reader import read_rows
from nimdrum.scoring.score import score_frame
from nimdrum.web.chat import complete

ASK = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
FLAGS = "--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser deepseek_v3"
LOOK_UP = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
THINK = {"chat_template_kwargs": {"enable_thinking": True}}
SIGHTED = REPOSITORY / "tests/vllm_nim/sighted.py"


@pytest.fixture(scope="module")
def able(installation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Tools, reasoning and pictures. It is ended before the other engine starts, where pytest keeps the order."""
    folder = tmp_path_factory.mktemp("able")
    command = [installation / "venv/bin/python", "-I", SIGHTED, installation / "weights", folder / "weights"]
    subprocess.run(command, check=True, capture_output=True, timeout=READY_SEC)
    kinds: dict[str, Any] = {"weights": folder / "weights", "NIM_PASSTHROUGH_ARGS": FLAGS}
    with vllm_world(folder / "world", installation, **kinds) as world:
        engine = Engine(world, {**PARAMETERS, "per_row_columns": True, "max_tokens": 24, "temperature": 0})
        engine.model()
        yield engine


def ask(engine: Engine, *rows: dict[str, Any], **parameters: Any) -> pd.DataFrame:
    """A row for each of `rows`, with what it sets for itself."""
    names = sorted({name for row in rows for name in row})
    cells = {name: [_cell(row.get(name, "")) for row in rows] for name in names}
    prompts = cells.pop("promptText", [ASK] * len(rows))
    return score_frame(frame_of(prompts, **cells), engine.model(**parameters))


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_a_stop_text_ends_the_answer(able: Engine) -> None:
    """Before it; the row beside it goes on."""
    out = ask(able, {}, {"stop": "capital"}, {"stop": ["is", "France"]}, {"max_tokens": 2})
    assert set(out["row_error"]) == {""}
    assert out["resultText"].tolist() == [ANSWER, "The ", "The capital of ", "The capital"]
    assert out["finish_reason"].tolist() == ["stop", "stop", "stop", "length"]


def test_a_seed_repeats_a_warm_answer(able: Engine) -> None:
    """In one batch and in another, beside others and alone; another seed gives another answer, as no seed does."""
    rows = [{"seed": seed, "temperature": "1.5"} for seed in (1, 1, 2)]
    first, again = ask(able, *rows), ask(able, rows[0])
    assert first["resultText"][0] == first["resultText"][1] == again["resultText"][0]
    assert first["resultText"][2] != first["resultText"][0]
    free = ask(able, *[{"temperature": "1.5"}] * 3)
    assert len(set(free["resultText"])) > 1


def test_choices_by_a_seed_are_several(able: Engine) -> None:
    """vLLM counts on from the seed, as our own choices one by one do: the second choice is the first of the next seed."""
    out = ask(able, {"seed": "1"}, {"seed": "2"}, n=2, temperature=1.5)
    assert out["choice_2"][0] == out["resultText"][1] != out["resultText"][0]


def test_less_chance_by_row(able: Engine) -> None:
    """top_p and vLLM's own top_k leave the likeliest token alone, so that a hot row says what a cold one does; a penalty
    changes what a cold row says."""
    hot = {"temperature": "2"}
    out = ask(able, {"top_p": "0.0001", **hot}, {"extra_body": {"top_k": 1}, **hot})
    assert out["resultText"].tolist() == [ANSWER] * 2
    again = {"promptText": "Repeat this: la la la la la la la la la la la la"}
    plain, *punished = ask(able, again, {**again, "frequency_penalty": "2"}, {**again, "presence_penalty": "2"})[
        "resultText"
    ]
    assert plain not in punished


def test_log_probabilities_by_row(able: Engine) -> None:
    """Of each token, with as many likeliest ones as asked for; the row beside it has none."""
    out = ask(able, {"logprobs": 2}, {})
    tokens = json.loads(out["logprobs"][0])["content"]
    assert "".join(token["token"] for token in tokens).startswith(ANSWER)
    assert all(len(token["top_logprobs"]) == 2 and token["logprob"] <= 0 for token in tokens)
    assert out["logprobs"][1] == ""


def test_a_tool_is_called_by_row(able: Engine) -> None:
    """A call has its column and is no empty answer; a tool that is only offered leaves an answer one. So small a model
    makes no sense, but its arguments are JSON."""
    named = {"type": "function", "function": {"name": "look_up"}}
    out = ask(
        able,
        {"tools": [LOOK_UP], "tool_choice": named, "max_tokens": "60"},
        {"tools": [LOOK_UP]},
        {"tool_choice": "auto"},
    )
    assert set(out["row_error"]) == {""}
    (call,) = json.loads(out["tool_calls"][0])
    assert call["function"]["name"] == "look_up"
    json.loads(call["function"]["arguments"])
    assert (out["resultText"].tolist(), out["tool_calls"].tolist()[1:]) == (["", ANSWER, ANSWER], ["", ""])


def test_an_answer_by_a_schema_and_by_vllms_own_words(able: Engine) -> None:
    """response_format and structured_outputs, each for one row."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}, "required": ["a"]}
    schema["additionalProperties"] = False
    rows = (
        {"response_format": schema, "max_tokens": "60"},
        {"extra_body": {"structured_outputs": {"choice": ["seven"]}}},
    )
    out = ask(able, *rows, {})
    assert set(json.loads(out["resultText"][0])) == {"a"}
    assert out["resultText"].tolist()[1:] == ["seven", ANSWER]


@pytest.mark.parametrize("parameter", ["", json.dumps(THINK)], ids=["off for all", "on for all"])
def test_thinking_is_switched_for_one_row(able: Engine, parameter: str) -> None:
    """By the switch of its chat template: one thinks, whatever the parameter says of the others, and one does not."""
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    out = ask(able, {"extra_body": THINK}, {"extra_body": off}, {}, extra_body=parameter)
    thinks = [True, False, bool(parameter)]
    assert [bool(cell.strip()) for cell in out["reasoning"]] == thinks
    assert [error.partition(":")[0] for error in out["row_error"]] == [
        "empty_answer" if each else "" for each in thinks
    ]
    assert [text for text, each in zip(out["resultText"], thinks, strict=True) if not each] == [ANSWER] * thinks.count(
        False
    )


def test_a_picture_arrives(able: Engine) -> None:
    """In rows and in a chat: it takes tokens of its own, and changes the answer. The example file is read; what is no picture
    costs its row, and so does one that is larger than the proxy takes."""
    example = read_rows((REPOSITORY / "examples/pictures.csv").read_bytes())
    disc = json.loads(example["messages"][0])
    text, picture = disc[0]["content"]
    broken, large = ("data:image/png;base64," + letters for letters in ("AAAA", "A" * (20 << 20)))
    talks = [example["messages"][0], example["messages"][1], json.dumps([{"role": "user", "content": text["text"]}])]
    talks += [json.dumps(disc).replace(picture["image_url"]["url"], url) for url in (broken, large)]
    out = ask(able, *({"messages": talk} for talk in talks), max_tokens=12)
    assert [error.partition(":")[0] for error in out["row_error"]] == ["", "", "", "refused", "too_large"]
    assert "cannot identify image file" in out["row_error"][3]
    assert "the request has 20.0 MB" in out["row_error"][4]
    assert out["prompt_tokens"][0] > out["prompt_tokens"][2] + 4  # four patches, and the marks around them
    assert out["resultText"][0] != out["resultText"][2]
    chat = complete({"messages": disc, "max_tokens": 12, "temperature": 0}, able.model())
    assert (chat.choices[0].message.content, chat.usage.prompt_tokens) == (
        out["resultText"][0],
        out["prompt_tokens"][0],
    )


def test_a_batch_says_what_its_rows_say_alone(able: Engine) -> None:
    """At temperature 0, and with a seed at the default temperature, on the CPU: what DataRobot's side-effect check compares.
    Without either it does not."""
    prompts = ["Name three colours.", "Tell a joke.", "What is ice?", "Write a line about the sea."]
    warm = {"temperature": "1"}
    for own in ({}, {**warm, "seed": "7"}):
        batch = ask(able, *({"promptText": prompt, **own} for prompt in prompts))["resultText"]
        alone = [ask(able, {"promptText": prompt, **own})["resultText"][0] for prompt in prompts]
        assert batch.tolist() == alone
    batch = ask(able, *({"promptText": prompt, **warm} for prompt in prompts))["resultText"]
    alone = [ask(able, {"promptText": prompt, **warm})["resultText"][0] for prompt in prompts]
    assert batch.tolist() != alone
