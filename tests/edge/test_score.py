"""Scoring against the fake NIM: every row comes back, in order, whatever the engine does."""

import dataclasses

import pandas as pd
import pytest
from edge_world import World

from nimdrum.base.errors import BadInputError, RowsFailedError
from nimdrum.scoring.score import score_frame


def frame_of(prompts: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"promptText": prompts}, dtype=object)


def prompts(count: int, mark: str = "", at: int = -1) -> list[str]:
    return [f"prompt {i}{' ' + mark if i == at else ''}" for i in range(count)]


def echoes(texts: list[str]) -> list[str]:
    """What the fake answers to prompts."""
    return [f"echo: {text}" for text in texts]


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_rows_come_back_in_order(world: World, line: str) -> None:
    """300 rows through a window of 32, one answer each, in the order of the rows, with token counts."""
    world.fake(line=line, seconds_per_token=0.001)
    asked = prompts(300)
    out = score_frame(frame_of(asked), world.ready_model(max_concurrency=32))
    assert out["resultText"].tolist() == echoes(asked)
    assert list(out.index) == list(range(300))
    assert set(out["row_error"]) == {""}
    assert set(out["finish_reason"]) == {"stop"}
    assert out["completion_tokens"].tolist() == [3] * 300


TROUBLE = {
    "503 at first": {"fail_count": 5, "fail_status": 503},
    "500 at first": {"fail_count": 5, "fail_status": 500},
    "502 from nginx": {"line": "2.x", "fail_count": 5, "fail_status": 502},
    "429 with Retry-After": {"rate_limit_after": 3, "rate_limit_count": 10, "retry_after_sec": 0.2},
    "reset in the middle of the body": {"reset_count": 5},
    "crash in the middle": {"crash_after": 20, "crash_once": True, "seconds_per_token": 0.01},
    "engine dead while the process lives": {"fail_count": 3, "fail_status": 500, "line": "2.x"},
}


@pytest.mark.parametrize("switches", TROUBLE.values(), ids=TROUBLE)
def test_passing_trouble_costs_no_row(world: World, switches: dict[str, object]) -> None:
    """What is safe to retry is retried: all rows are answered, each once."""
    world.fake(record_requests=True, **switches)
    asked = prompts(60)
    out = score_frame(frame_of(asked), world.ready_model(max_concurrency=8, max_watchdog_backoff_sec=1))
    assert out["resultText"].tolist() == echoes(asked)
    assert set(out["row_error"]) == {""}


def test_a_poisoned_row_costs_one_row(world: World) -> None:
    """A row that the engine refuses is not sent again, and the others do not notice."""
    world.fake(poison="poison", record_requests=True)
    asked = prompts(40, "poison", at=7)
    out = score_frame(frame_of(asked), world.ready_model())
    assert out["row_error"][7].startswith("refused: ")
    assert out["resultText"][7] == ""
    assert [text for i, text in enumerate(out["resultText"]) if i != 7] == echoes(
        [p for p in asked if "poison" not in p]
    )
    assert len([r for r in world.requests() if "poison" in str(r["body"])]) == 1


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_an_over_long_prompt_is_told_apart(world: World, line: str) -> None:
    """Nine rows good and one too long: nine answers and one row error, on 2.x with its own kind."""
    world.fake(line=line, max_model_len=100)
    asked = [*prompts(9), "word " * 200]
    out = score_frame(frame_of(asked), world.ready_model(max_tokens=10))
    assert out["resultText"][:9].tolist() == echoes(asked[:9])
    assert out["row_error"][9].startswith(("too_long: ", "refused: "))
    assert set(out["row_error"][:9]) == {""}


def test_a_row_that_kills_the_engine_costs_one_row(world: World) -> None:
    """The engine dies each time it gets this row: after some restarts the row is given up, and no other is lost."""
    world.fake(crash_prompts_containing="poison", seconds_per_token=0.01)
    asked = prompts(60, "poison", at=30)
    model = world.ready_model(max_concurrency=16, max_watchdog_backoff_sec=1)
    out = score_frame(frame_of(asked), model)
    failed = out.index[out["row_error"] != ""].tolist()
    assert failed == [30]
    assert out["row_error"][30].startswith("engine_down: ")
    state = model.attachment.state()
    assert state is not None
    assert state.restarts < 10


def test_a_hanging_row_times_out_alone(world: World) -> None:
    """A row that is never answered ends at its own deadline; the others are answered."""
    world.fake(hang_prompts_containing="hang")
    asked = prompts(10, "hang", at=3)
    out = score_frame(frame_of(asked), world.ready_model(row_timeout_sec=10))
    assert out["row_error"][3].startswith("timed_out: ")
    assert out["resultText"].tolist()[4:] == echoes(asked[4:])


def test_null_content_and_odd_characters(world: World) -> None:
    """No silent blank, and a lone surrogate in one answer does not lose the batch."""
    world.fake(null_content="think", lone_surrogate="odd")
    out = score_frame(frame_of(["fine", "think hard", "odd one"]), world.ready_model())
    assert out["resultText"][0] == "echo: fine"
    assert out["row_error"][1].startswith("empty_answer: ")
    assert out["finish_reason"][1] == "length"
    out["resultText"][2].encode("utf-8")
    assert out["row_error"][2] == ""


def test_empty_prompts_are_not_sent(world: World) -> None:
    """DataRobot's validation sends a file of empty prompts: empty answers with a row error, and no request."""
    world.fake(record_requests=True)
    out = score_frame(frame_of(["", "   ", "real"]), world.ready_model())
    assert out["resultText"].tolist() == ["", "", "echo: real"]
    assert [error.partition(":")[0] for error in out["row_error"]] == ["empty_prompt", "empty_prompt", ""]
    assert len(world.requests()) == 1
    quiet = world.ready_model(extra_output_columns=False)
    assert score_frame(frame_of([""]), quiet)["resultText"].tolist() == [""]


N_REFUSED = {
    "engine gives n": ("never", 1, ["echo: a", "echo-1: a", "echo-2: a"]),
    "refused at temperature 0": ("greedy", 0, ["echo: a", "", ""]),
    "refused always": ("always", 1, ["echo: a", "echo: a", "echo: a"]),
}


@pytest.mark.parametrize(("refuse_n", "temperature", "expected"), N_REFUSED.values(), ids=N_REFUSED)
def test_n_choices(world: World, refuse_n: str, temperature: float, expected: list[str]) -> None:
    """Further choices come in columns; an engine that refuses n is asked once (greedy) or one by one."""
    world.fake(refuse_n=refuse_n, line="2.x")
    out = score_frame(frame_of(["a", "a"]), world.ready_model(n=3, temperature=temperature))
    assert out[["resultText", "choice_2", "choice_3"]].to_numpy().tolist() == [expected, expected]
    assert set(out["row_error"]) == {""}


def test_settings_reach_the_engine(world: World) -> None:
    """System prompt, max_tokens and a temperature of 0 are sent as they were set; unset ones are not sent."""
    world.fake(record_requests=True)
    score_frame(frame_of(["a"]), world.ready_model(system_prompt="Be brief.", max_tokens=5, temperature=0))
    body = world.requests()[0]["body"]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["max_tokens"], body["temperature"], "n" in body) == (5, 0, False)


def test_columns_that_mean_something_else(world: World) -> None:
    """A table of weather reports changes nothing; where its columns are taken for settings, rows fail and say why."""
    world.fake(record_requests=True)
    frame = pd.DataFrame({"promptText": ["a", "b"], "temperature": ["25.3", "0.5"], "messages": ["12", ""]})
    out = score_frame(frame, world.ready_model(per_row_columns=True))
    assert [error.partition(":")[0] for error in out["row_error"]] == ["bad_row", ""]
    assert "per_row_columns" in out["row_error"][0]
    assert world.requests()[0]["body"]["temperature"] == 0.5
    out = score_frame(frame, world.ready_model())
    assert out["resultText"].tolist() == ["echo: a", "echo: b"]
    assert all("temperature" not in request["body"] for request in world.requests()[1:])


def test_without_extra_columns_a_failed_row_fails_the_request(world: World) -> None:
    """No column to report it in: the request fails, with the row and a status that says whose fault it was."""
    world.fake(poison="poison")
    with pytest.raises(RowsFailedError, match="row 2 with refused") as failure:
        score_frame(frame_of(["a", "poison"]), world.ready_model(extra_output_columns=False))
    assert failure.value.status == 400


def test_a_dead_engine_keeps_the_answers_that_it_gave(world: World) -> None:
    """When the engine is given up in the middle, rows that were answered stay, and the rest say why they failed."""
    world.fake(crash_after=20, seconds_per_token=0.01)
    model = world.ready_model(max_concurrency=4, max_watchdog_restarts=0)
    asked = prompts(40)
    out = score_frame(frame_of(asked), model)
    answered = out[out["row_error"] == ""]
    assert len(answered) == 20
    assert answered["resultText"].tolist() == echoes([asked[i] for i in answered.index])
    failed = out[out["row_error"] != ""]
    assert all(error.startswith("engine_down: ") for error in failed["row_error"])
    with pytest.raises(Exception, match="has failed"):  # and the next request fails as a whole
        score_frame(frame_of(asked), model)


def test_a_missing_prompt_column_names_those_found(world: World) -> None:
    """The error that a caller can act on: which column is missing, and which there are."""
    world.fake()
    with pytest.raises(BadInputError, match=r"'promptText' is missing\. Columns found: question, id"):
        score_frame(pd.DataFrame({"question": ["a"], "id": ["1"]}), world.ready_model())


def test_gaps_in_the_index_do_not_matter(world: World) -> None:
    """Moderation takes rows out before score sees them: positions count, not labels."""
    world.fake()
    frame = frame_of(prompts(6)).drop(index=[0, 3])
    out = score_frame(frame, world.ready_model())
    assert out["resultText"].tolist() == echoes(frame["promptText"].tolist())
    assert list(out.index) == [0, 1, 2, 3]


def test_a_batch_may_take_longer_than_a_row(world: World) -> None:
    """Where a worker may be busy for 60 s, rows that need 0.5 s each, one at a time, are all answered with 8 s a row."""
    world.fake(prefill_sec=0.5)
    model = world.ready_model(row_timeout_sec=8, max_concurrency=1)
    model.hosting = dataclasses.replace(model.hosting, request_timeout_sec=60)
    out = score_frame(frame_of(prompts(20)), model)
    assert set(out["row_error"]) == {""}


def test_a_batch_ends_before_its_worker_is_killed(world: World) -> None:
    """What is not answered by then is a row error, and the answers that are there are kept."""
    world.fake(prefill_sec=0.5)
    model = world.ready_model(row_timeout_sec=600, max_concurrency=1)
    model.hosting = dataclasses.replace(model.hosting, request_timeout_sec=13)  # 8 s without the margin
    out = score_frame(frame_of(prompts(24)), model)
    errors = [error.partition(":")[0] for error in out["row_error"]]
    assert errors[0] == ""
    assert errors[-1] == "timed_out"


def test_a_token_limit_ends_a_batch_in_order(world: World) -> None:
    """The rows that it had room for are answered, the others are not asked and say so."""
    world.fake(record_requests=True)
    asked = prompts(400)
    out = score_frame(frame_of(asked), world.ready_model(max_concurrency=16, batch_token_limit=1000))
    answered = (out["row_error"] == "").sum()
    assert out["resultText"].tolist() == [*echoes(asked)[:answered], *[""] * (400 - answered)]
    assert out["row_error"][answered:].str.startswith("skipped: batch_token_limit (1000) was reached").all()
    used = out["prompt_tokens"].sum() + out["completion_tokens"].sum()
    assert 0.98 * 1000 <= used <= 1.02 * 1000
    assert len(world.requests()) == answered


def test_a_time_limit_keeps_what_is_answered(world: World) -> None:
    """Rows that are under way at the limit are cut and, as those that never began, skipped."""
    world.fake(hang_prompts_containing="never answered", record_requests=True)
    asked = [*prompts(10), *["never answered"] * 30]
    out = score_frame(frame_of(asked), world.ready_model(max_concurrency=8, batch_time_limit_sec=10))
    assert out["resultText"].tolist() == [*echoes(asked[:10]), *[""] * 30]
    assert out["row_error"][10:].str.startswith("skipped: batch_time_limit_sec (10) was over").all()
    assert len(world.requests()) < 40
