"""OpenTelemetry spans for what the engine is asked, by the GenAI semantic conventions: numbers and names, no texts.
A chat's metrics (`meters.py`) come with its span.

DRUM sets a tracer provider when OTEL_EXPORTER_OTLP_ENDPOINT is set. Without one the API gives spans that record
nothing, and everything here returns at once.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from nimdrum.base.errors import HTTPStatusError
from nimdrum.engines.wire import MOST_TOKENS
from nimdrum.session.attach import Endpoint
from nimdrum.session.counters import Tally
from nimdrum.session.meters import OPERATION, SCOPE, note_operation

REQUEST_FIELDS = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "seed")


class ChatSpan:
    """One chat completion. It ends with the answer, which for a stream is after the hook has returned."""

    def __init__(
        self, engine: str, clock: Callable[[], float] = time.monotonic, tracer: trace.Tracer | None = None
    ) -> None:
        """`engine` is the name of its kind. `tracer` is by default that of this process."""
        self._engine = engine
        self._clock = clock
        self._began = clock()
        attributes = {"gen_ai.operation.name": OPERATION, "gen_ai.provider.name": engine}
        self._span = (tracer or trace.get_tracer(SCOPE)).start_span(
            OPERATION, kind=SpanKind.CLIENT, attributes=attributes
        )
        self._on = self._span.is_recording()
        self._reasons: dict[int, str] = {}
        self._endpoint: Endpoint | None = None
        self._model: str | None = None
        self._tokens: dict[str, int | None] = {}
        self._error: str | None = None

    def headers(self) -> list[tuple[str, str]]:
        """What joins the engine's own spans to this one."""
        if not self._on:
            return []
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(self._span))
        return list(carrier.items())

    def asked(self, body: Mapping[str, Any], endpoint: Endpoint) -> None:
        """What goes to the engine, and where."""
        model = body.get("model")
        self._endpoint, self._model = endpoint, model if isinstance(model, str) else None
        if not self._on:
            return
        self._span.update_name(f"{OPERATION} {endpoint.model}")
        _set(self._span, {"server.address": endpoint.host, "server.port": endpoint.port})
        _set(self._span, {"gen_ai.request.model": body.get("model"), "gen_ai.request.choice.count": body.get("n")})
        _set(self._span, {f"gen_ai.request.{name}": body.get(name) for name in REQUEST_FIELDS})

    def answered(self, answer: Any) -> None:
        """A whole completion."""
        self._note(answer)

    def streamed(self, chunk: Any) -> None:
        """One chunk of a stream."""
        self._note(chunk)
        if error := (chunk.model_extra or {}).get("error"):
            self._failed(error.get("type"))

    def failed(self, error: BaseException) -> None:
        """No answer, and why: a status or the name of the error, never its text."""
        self._failed(str(error.status if isinstance(error, HTTPStatusError) else type(error).__name__))

    def _failed(self, kind: Any) -> None:
        self._error = kind if isinstance(kind, str) and kind else "_OTHER"
        if self._on:
            self._span.set_status(StatusCode.ERROR)
            _set(self._span, {"error.type": self._error})

    def end(self) -> None:
        if self._endpoint:  # else there was no engine to ask
            seconds = self._clock() - self._began
            note_operation(self._engine, self._endpoint, self._model, seconds, self._tokens, self._error)
        if self._on:
            reasons = [self._reasons[index] for index in sorted(self._reasons)]
            _set(self._span, {"gen_ai.response.finish_reasons": reasons or None})
        self._span.end()

    def _note(self, answer: Any) -> None:
        """What `answer` tells, of which nobody has checked that it is what an engine should say."""
        if usage := getattr(answer, "usage", None):
            counts = {
                "input": getattr(usage, "prompt_tokens", None),
                "output": getattr(usage, "completion_tokens", None),
            }
            self._tokens = {
                way: count for way, count in counts.items() if type(count) is int and 0 <= count <= MOST_TOKENS
            }
        if not self._on:
            return
        _set(self._span, {"gen_ai.response.id": answer.id or None, "gen_ai.response.model": answer.model or None})
        for choice in answer.choices if isinstance(answer.choices, list) else []:
            index, reason = getattr(choice, "index", None), getattr(choice, "finish_reason", None)
            if isinstance(index, int) and isinstance(reason, str):
                self._reasons[index] = reason
        _set(self._span, {f"gen_ai.usage.{way}_tokens": count for way, count in self._tokens.items()})


@contextmanager
def rows_span(rows: int) -> Iterator[Span]:
    """One call of the score hook."""
    attributes: dict[str, Any] = {"gen_ai.operation.name": OPERATION, "nimdrum.rows": rows}
    # The text of an error may quote what a row held, so it stays out, as all texts do.
    with trace.get_tracer(SCOPE).start_as_current_span(
        "nimdrum.score",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_status(StatusCode.ERROR)
            _set(span, {"error.type": type(error).__name__})
            raise


def note_rows(tally: Tally) -> None:
    """Put the sums of a batch into its span, which is the current one."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    _set(
        span,
        {
            "gen_ai.usage.input_tokens": tally.prompt_tokens,
            "gen_ai.usage.output_tokens": tally.completion_tokens,
            "gen_ai.response.finish_reasons": list(tally.finish_reasons),
            "nimdrum.rows.failed": tally.failed,
        },
    )


def _set(span: Span, attributes: Mapping[str, Any]) -> None:
    """Set what is known. A value of a wrong type (a caller may send anything) is left out."""
    for name, value in attributes.items():
        if isinstance(value, str | int | float | list) and value != []:
            span.set_attribute(name, value)
