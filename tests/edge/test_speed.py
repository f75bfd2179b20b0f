"""Full speed against the fake NIM: the window finds the engine's size, rows set things for themselves, all is told."""

import json
import threading
from typing import Any

import pandas as pd
import pytest
from edge_world import World

from nimdrum.engines import nim
from nimdrum.scoring import traffic
from nimdrum.scoring.score import score_frame


def frame_of(prompts: list[str], **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"promptText": prompts, **columns}, dtype=object)


def window_of(model: Any) -> Any:
    """The window that this process has for the model's engine."""
    path = str(model.attachment.run_dir.path)
    return next(shared.window for (_, name, *_), shared in traffic._traffic.items() if name == path)


def test_the_window_shrinks_to_a_small_engine(world: World) -> None:
    """Eight slots: the window ends with those and a short queue, below where it began."""
    world.fake(max_num_seqs=8, seconds_per_token=0.02, answer_tokens=10, line="2.x")
    model = world.ready_model()
    out = score_frame(frame_of([f"prompt {i}" for i in range(200)]), model)
    assert set(out["row_error"]) == {""}
    assert window_of(model).size < nim.KIND.bounds.start


def test_the_window_grows_with_a_large_engine(world: World) -> None:
    """Many slots and slow tokens: more rows are in flight at the end than at the beginning."""
    world.fake(max_num_seqs=256, seconds_per_token=0.02, answer_tokens=25)
    model = world.ready_model()
    out = score_frame(frame_of([f"prompt {i}" for i in range(600)]), model)
    assert set(out["row_error"]) == {""}
    assert window_of(model).size > nim.KIND.bounds.start


def test_without_metrics_the_window_is_fixed(world: World) -> None:
    """A server that shows no queue gets the safe number."""
    world.fake(metrics=False, seconds_per_token=0.02, answer_tokens=10)
    model = world.ready_model(max_concurrency=40)
    score_frame(frame_of([f"prompt {i}" for i in range(200)]), model)
    assert window_of(model).size == 40


def test_a_slow_first_row_does_not_hold_the_others(world: World) -> None:
    """It hangs until its deadline; the others are answered meanwhile."""
    world.fake(hang_prompts_containing="hang", record_requests=True)
    out = score_frame(frame_of(["hang", *[f"prompt {i}" for i in range(20)]]), world.ready_model(row_timeout_sec=10))
    assert out["row_error"][0].startswith("timed_out: ")
    assert set(out["row_error"][1:]) == {""}
    assert out["latency_sec"][1:].max() < out["latency_sec"][0]


def test_calls_share_one_window(world: World) -> None:
    """Four requests to one process at once: all rows are answered, each to its own caller."""
    world.fake(seconds_per_token=0.01)
    model = world.ready_model(max_concurrency=8)
    answers: dict[int, list[str]] = {}

    def call(number: int) -> None:
        asked = [f"call {number} row {i}" for i in range(30)]
        answers[number] = score_frame(frame_of(asked), model)["resultText"].tolist()

    calls = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(4)]
    for thread in calls:
        thread.start()
    for thread in calls:
        thread.join(60)
    assert answers == {number: [f"echo: call {number} row {i}" for i in range(30)] for number in range(4)}
    assert window_of(model).in_flight == 0


def test_one_bad_row_of_ten_thousand(world: World) -> None:
    """9,999 answers and one row error."""
    world.fake(poison="poison")
    asked = [f"prompt {i}{' poison' if i == 4321 else ''}" for i in range(10_000)]
    out = score_frame(frame_of(asked), world.ready_model())
    assert out["row_error"][4321].startswith("refused: ")
    assert (out["row_error"] != "").sum() == 1
    answered = out.drop(index=4321)
    assert answered["resultText"].tolist() == [f"echo: {text}" for text in asked if "poison" not in text]


def test_a_row_tells_what_it_cost(world: World) -> None:
    """Seconds and requests, also for one that was sent twice and one that was never sent."""
    world.fake(fail_count=1, fail_status=500)
    out = score_frame(frame_of(["a", ""]), world.ready_model())
    assert out["attempts"].tolist() == [2, 0]
    assert out["latency_sec"][0] > 0
    assert out["latency_sec"][1] is None


def test_rows_set_things_for_themselves(world: World) -> None:
    """Columns beside the prompt override the settings; a bad cell costs its row and is not sent."""
    world.fake(record_requests=True)
    conversation = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}]
    frame = frame_of(
        ["plain", "own", "bad", ""],
        max_tokens=["", "7", "many", ""],
        temperature=["", "0", "", ""],
        system_prompt=["", "Mine.", "", ""],
        messages=["", "", "", json.dumps(conversation)],
    )
    out = score_frame(frame, world.ready_model(max_tokens=50, system_prompt="All.", per_row_columns=True))
    assert out["resultText"].tolist() == ["echo: plain", "echo: own", "", "echo: there"]
    assert [error.partition(":")[0] for error in out["row_error"]] == ["", "", "bad_row", ""]
    bodies = {request["body"]["messages"][-1]["content"]: request["body"] for request in world.requests()}
    assert set(bodies) == {"plain", "own", "there"}
    assert (bodies["plain"]["max_tokens"], "temperature" in bodies["plain"]) == (50, False)
    assert (bodies["own"]["max_tokens"], bodies["own"]["temperature"]) == (7, 0)
    assert bodies["own"]["messages"][0]["content"] == "Mine."
    assert bodies["there"]["messages"] == [{"role": "system", "content": "All."}, *conversation]


def test_conversations_need_no_prompt_column(world: World) -> None:
    """A file of conversations only."""
    world.fake()
    frame = pd.DataFrame({"messages": [json.dumps([{"role": "user", "content": "Hi"}]), ""]}, dtype=object)
    out = score_frame(frame, world.ready_model(per_row_columns=True))
    assert out["resultText"].tolist() == ["echo: Hi", ""]
    assert out["row_error"][1].startswith("empty_prompt: ")


def test_the_answer_has_the_asked_for_shape(world: World) -> None:
    """response_format reaches the engine as OpenAI's field."""
    world.fake(record_requests=True, line="2.x")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    score_frame(frame_of(["x"]), world.ready_model(response_format=json.dumps(schema)))
    sent = world.requests()[0]["body"]["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_has_its_own_column(world: World, field: str) -> None:
    """Split from the answer by default; with the switch off there is no such column."""
    world.fake(reasoning="Let me think.", reasoning_field=field, null_content="forever")
    out = score_frame(frame_of(["a", "forever"]), world.ready_model())
    assert out["resultText"].tolist() == ["echo: a", ""]
    assert out["reasoning"].tolist() == ["Let me think."] * 2
    assert "went to reasoning" in out["row_error"][1]
    assert "reasoning" not in score_frame(frame_of(["a"]), world.ready_model(split_reasoning=False)).columns
