"""OpenTelemetry metrics of what the engine is asked, by the GenAI semantic conventions: numbers and names, no texts.

DRUM sets a meter provider when OTEL_EXPORTER_OTLP_ENDPOINT is set. Without one these instruments record nothing.
"""

from collections.abc import Mapping, Sequence

from opentelemetry import metrics
from opentelemetry.metrics import Histogram, Meter

from nimdrum.session.attach import Endpoint

SCOPE = "nimdrum"
OPERATION = "chat"
# The buckets are those that the conventions advise.
SECONDS = [0.01 * 2**power for power in range(14)]
TOKENS = [4.0**power for power in range(14)]


def make_histogram(meter: Meter, name: str, unit: str, description: str, buckets: Sequence[float]) -> Histogram:
    try:
        return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)
    except TypeError:  # an older release of the API, which another package may have brought
        return meter.create_histogram(name, unit, description)


METER = metrics.get_meter(SCOPE)
DURATION = make_histogram(
    METER, "gen_ai.client.operation.duration", "s", "Time from a row or chat to its answer, tries included", SECONDS
)
USAGE = make_histogram(METER, "gen_ai.client.token.usage", "{token}", "Tokens of a prompt, and of its answer", TOKENS)


def note_operation(
    engine: str,
    endpoint: Endpoint | None,
    model: str | None,
    seconds: float,
    tokens: Mapping[str, int | None],
    error: str | None = None,
) -> None:
    """One row or chat that was sent: how long it took, and its tokens by type (input, output) where they are told.

    `engine` is the name of its kind, `model` what was asked for, `error` one word or a status where there is no answer.
    """
    attributes: dict[str, str | int] = {"gen_ai.operation.name": OPERATION, "gen_ai.provider.name": engine}
    if endpoint:
        attributes |= {"server.address": endpoint.host, "server.port": endpoint.port}
    if model:
        attributes["gen_ai.request.model"] = model
    DURATION.record(seconds, {**attributes, "error.type": error} if error else attributes)
    for kind, count in tokens.items():
        if count is not None:
            USAGE.record(count, {**attributes, "gen_ai.token.type": kind})
