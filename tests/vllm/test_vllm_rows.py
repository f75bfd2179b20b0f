"""Rows on the real vLLM, by way of the score hook's own code: answers, choices, and what each row error is made of."""

import json

from vllm_world import Engine, frame_of

from nimdrum.scoring.score import score_frame

ASK = "What is the capital of France?"
PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]


def test_rows_are_answered(engine: Engine) -> None:
    """Text in, text out, in its order and in any script; tokens and finish reason as vLLM tells them."""
    prompts = [ASK, "Say: naïve café, 東京, 🙂.", "007", 'A "quoted", comma, and\nline', ASK]
    out = score_frame(frame_of(prompts), engine.model(max_tokens=12, temperature=0))
    assert set(out["row_error"]) == {""}
    assert "Paris" in out["resultText"][0]
    assert out["resultText"][0] == out["resultText"][4]
    assert out["finish_reason"][0] == "stop"
    assert set(out["finish_reason"]) <= {"stop", "length"}
    assert all(0 < tokens <= 12 for tokens in out["completion_tokens"])
    assert out["prompt_tokens"][1] > out["prompt_tokens"][2] > 0


def test_each_row_fails_for_itself(engine: Engine) -> None:
    """Every kind of row error that an engine's refusal makes, among rows that are answered."""
    rows = [
        (ASK, "", "", ""),
        ("", "", "", "empty_prompt"),
        ("word " * 3000, "", "", "too_long"),  # counted by vLLM
        ("x" * 100_000, "", "", "too_long"),  # not worth counting
        ("word " * 300_000, "", "", "too_large"),  # more than nginx takes
        (ASK, "5000", "", "refused"),  # more than the context
        (ASK, "many", "", "bad_row"),
        (ASK, "", json.dumps([{"role": "user", "content": PICTURE}]), "refused"),
        (ASK, "4", "", ""),
    ]
    columns = {"max_tokens": [row[1] for row in rows], "messages": [row[2] for row in rows]}
    model = engine.model(max_tokens=8, temperature=0, per_row_columns=True)
    out = score_frame(frame_of([row[0] for row in rows], **columns), model)
    assert [error.partition(":")[0] for error in out["row_error"]] == [row[3] for row in rows]
    assert [bool(text) for text in out["resultText"]] == [not row[3] for row in rows]
    assert "maximum context length is 2048" in out["row_error"][2]
    assert "max_model_len=2048" in out["row_error"][5]
    assert "not a multimodal model" in out["row_error"][7]


def test_choices(engine: Engine) -> None:
    """vLLM makes them in one request; at temperature 0, where it refuses them, one is asked for."""
    names = ["resultText", "choice_2", "choice_3"]
    warm = score_frame(frame_of(["Write a line of a poem."] * 2), engine.model(n=3, max_tokens=12, temperature=1))
    assert set(warm["row_error"]) == {""}
    assert all(len(set(row)) > 1 for row in warm[names].to_numpy().tolist())
    assert set(warm["attempts"]) == {1}
    cold = score_frame(frame_of([ASK] * 2), engine.model(n=3, max_tokens=12, temperature=0))
    assert set(cold["row_error"]) == {""}
    assert [[bool(text) for text in row] for row in cold[names].to_numpy().tolist()] == [[True, False, False]] * 2


def test_answers_by_a_schema(engine: Engine) -> None:
    """The parameter response_format binds every answer: JSON with these keys and no others."""
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 12}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    model = engine.model(max_tokens=60, temperature=0, response_format=json.dumps(schema))
    out = score_frame(frame_of([ASK, "What is the capital of Italy?"]), model)
    assert set(out["row_error"]) == {""}
    assert [set(json.loads(text)) for text in out["resultText"]] == [{"capital"}] * 2
