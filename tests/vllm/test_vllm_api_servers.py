"""The real vLLM with two API servers, tools switched on, and a log of JSON lines: an engine of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_nim.run import wait_for
from vllm_world import ANSWER_SEC, MODEL, PARAMETERS, Engine, frame_of, vllm_world

from nimdrum.scoring.score import score_frame
from nimdrum.web.chat import complete

LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks up a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def wide(installation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Ended before the other engine starts, where pytest keeps the order of the files."""
    flags = "--enable-auto-tool-choice --tool-call-parser hermes"
    environ = {"NIM_PASSTHROUGH_ARGS": flags, "NIM_JSONL_LOGGING": "true"}
    with vllm_world(tmp_path_factory.mktemp("wide"), installation, **environ) as world:
        engine = Engine(world, {**PARAMETERS, "api_server_count": 2})
        engine.model()
        yield engine


def test_there_are_two(wide: Engine) -> None:
    """By vLLM's own titles and words, in lines of JSON. It is ready with the first; the second is up a moment later."""

    def said(words: str) -> int:
        lines = [line for line in wide.log().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
        return sum(words in json.loads(line)["message"] for line in lines)

    assert len(wide.processes("VLLM::APIServer")) == 2
    assert said("Started 2 API server processes") == 1
    wait_for(lambda: said("Application startup complete") == 2, ANSWER_SEC)


def test_any_of_them_tells_of_all(wide: Engine) -> None:
    """Each look is a connection of its own, so now to one and now to the other; both tell the same of what runs."""
    with wide.in_flight(), wide.in_flight(), wide.in_flight():
        wide.wait_for_work(lambda work: work.running == 3)
        assert [wide.work().running for _ in range(12)] == [3] * 12
    wide.wait_for_work(lambda work: work.running == 0)
    assert [wide.work().running for _ in range(12)] == [0] * 12


def test_rows_go_through_both(wide: Engine) -> None:
    """All are answered, in their order."""
    prompts = [f"Say the number {i}." for i in range(24)]
    out = score_frame(frame_of(prompts), wide.model(max_tokens=6, temperature=0))
    assert set(out["row_error"]) == {""}
    assert set(out["attempts"]) == {1}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(wide: Engine, stream: bool) -> None:
    """A named tool, with arguments in JSON, in the fields that OpenAI's clients read. So small a model makes no sense."""
    fields: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Look up Paris."}],
        "max_tokens": 60,
        "temperature": 0,
        "tools": [LOOK_UP],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "stream": stream,
    }
    answer = complete(fields, wide.model())
    if stream:
        calls = [call for chunk in answer for choice in chunk.choices for call in choice.delta.tool_calls or []]
    else:
        calls = answer.choices[0].message.tool_calls
    assert "".join(call.function.name or "" for call in calls) == "look_up"
    assert json.loads("".join(call.function.arguments or "" for call in calls)) is not None
