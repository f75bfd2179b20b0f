"""The embedded engine: the real llama.cpp with a real small model, through the same launcher and scorer."""

import json

import pandas as pd
import pytest
from edge_world import World

from nimdrum.scoring.score import score_frame

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("engine")]  # two engines on two cores starve each other


def test_nine_good_rows_and_one_too_long(world: World) -> None:
    """One over-long prompt costs one row: nine answers, and a row error of its own kind for the tenth."""
    rows = [f"Name one animal. {i}" for i in range(9)]
    rows.insert(4, "word " * 3000)
    frame = pd.DataFrame({"promptText": rows}, dtype=object)
    out = score_frame(frame, world.ready_model(max_tokens=8, temperature=0))
    assert out["row_error"][4].startswith("too_long: ")
    assert "context" in out["row_error"][4]
    assert [text == "" for text in out["resultText"]] == [i == 4 for i in range(10)]


def test_the_settings_mean_something(world: World) -> None:
    """max_tokens cuts, temperature 0 repeats itself, n gives choices, and the token counts are the engine's."""
    frame = pd.DataFrame({"promptText": ["Write one sentence about the sea."]}, dtype=object)
    model = world.ready_model(max_tokens=6, temperature=0, n=3)
    first, second = score_frame(frame, model), score_frame(frame, model)
    assert first["finish_reason"][0] == "length"
    assert first["completion_tokens"][0] == 6  # llama.cpp counts one of the choices
    assert first["resultText"][0] == first["choice_2"][0] == second["resultText"][0]


def test_the_model_length_is_the_context_of_each_row(world: World) -> None:
    """NIM_MAX_MODEL_LEN bounds prompt and answer together, here 256 tokens (llama.cpp rounds up to that)."""
    frame = pd.DataFrame({"promptText": ["word " * 300, "Hi."]}, dtype=object)
    out = score_frame(frame, world.ready_model(NIM_MAX_MODEL_LEN=256, max_tokens=4))
    assert out["row_error"][0].startswith("too_long: ")
    assert out["row_error"][1] == ""


def test_fields_that_each_row_sets(world: World) -> None:
    """By their effect, in one call: a stop text, a seed that repeats a warm answer, top_p and llama.cpp's own top_k that
    leave one token to choose from, log probabilities, a schema; and an unknown model, which llama.cpp itself would answer."""
    ask, warm, poem = "What is the capital of France? Answer in one sentence.", "2", "Write a line about the sea."
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    rows: list[dict[str, str]] = [
        {},
        {"stop": "capital"},
        {"seed": "7", "temperature": warm, "promptText": poem},
        {"seed": "7", "temperature": warm, "promptText": poem},
        {"seed": "8", "temperature": warm, "promptText": poem},
        {"top_p": "0.0001", "temperature": warm},
        {"extra_body": '{"top_k": 1}', "temperature": warm},
        {"logprobs": "2"},
        {"response_format": json.dumps(schema), "max_tokens": "60"},
        {"model": "legal"},
    ]
    names = sorted({name for row in rows for name in row})
    columns = {name: [row.get(name, ask if name == "promptText" else "") for row in rows] for name in names}
    frame = pd.DataFrame(columns, dtype=object)
    model = world.ready_model(max_tokens=12, temperature=0, per_row_columns=True)
    out = score_frame(frame, model)
    plain, cut, *warmer = out["resultText"][:5]
    assert "capital" in plain
    assert cut == plain.partition("capital")[0]
    assert warmer[0] == warmer[1] != warmer[2]
    assert out["resultText"][5] == out["resultText"][6] == out["resultText"][7] == plain
    tokens = json.loads(out["logprobs"][7])["content"]
    assert "".join(token["token"] for token in tokens) == plain
    assert {len(token["top_logprobs"]) for token in tokens} == {2}
    assert set(json.loads(out["resultText"][8])) == {"a"}
    assert out["row_error"].tolist() == [""] * 9 + [out["row_error"][9]]
    assert out["row_error"][9].startswith(
        "unknown_model: the engine has no model 'legal'; there are: datarobot-deployed-llm"
    )
