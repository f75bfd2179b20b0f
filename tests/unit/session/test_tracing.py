"""A chat's span takes what the engine says as it is: a wrong field costs that field, and never the answer."""

import time
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from nimdrum.session.tracing import ChatSpan

GOOD: dict[str, Any] = {
    "id": "c-1",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
ODD = {
    "a list of tokens": {"usage": [1, 2]},
    "text for tokens": {"usage": {"prompt_tokens": "3", "completion_tokens": None}},
    "tokens without end": {"usage": {"prompt_tokens": 10**400, "completion_tokens": -1}},
    "a number for usage": {"usage": 7},
    "no choices": {"choices": None},
    "text for choices": {"choices": "none"},
    "numbers for choices": {"choices": [1, 2]},
    "a list for an index": {"choices": [{"index": [0], "finish_reason": "stop"}]},
    "an object for a reason": {"choices": [{"index": 0, "finish_reason": {"type": "stop"}}]},
    "a list for an id": {"id": [1], "model": {"name": "m"}},
}


def attributes_of(document: dict[str, Any]) -> dict[str, Any]:
    """What the span of this answer tells."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = ChatSpan("nim", time.monotonic, provider.get_tracer("test"))
    span.answered(ChatCompletion.model_construct(**document))
    span.end()
    (told,) = exporter.get_finished_spans()
    return dict(told.attributes or {})


def test_a_good_answer_is_told() -> None:
    """Tokens, id, model and the reason of its end."""
    parsed = ChatCompletion(
        created=1, object="chat.completion", **GOOD | {"usage": GOOD["usage"] | {"total_tokens": 5}}
    )
    told = attributes_of(dict(parsed))
    assert told["gen_ai.usage.input_tokens"] == 3
    assert told["gen_ai.usage.output_tokens"] == 2
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert (told["gen_ai.response.id"], told["gen_ai.response.model"]) == ("c-1", "m")


@pytest.mark.parametrize("wrong", ODD.values(), ids=ODD)
def test_a_wrong_field_is_left_out(wrong: dict[str, Any]) -> None:
    """Also while nothing is recorded, where the counts go to the metrics."""
    document = GOOD | wrong
    told = attributes_of(document)
    assert "gen_ai.usage.input_tokens" not in told or "usage" not in wrong
    ChatSpan("nim").answered(ChatCompletion.model_construct(**document))
