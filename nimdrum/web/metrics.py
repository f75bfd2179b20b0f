"""/metrics: the engine's state, what all DRUM processes counted, and the engine's own page, as Prometheus text."""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from nimdrum import __version__
from nimdrum.engines.work import Page, find_page
from nimdrum.session.attach import Endpoint
from nimdrum.session.counters import Labels, Sample, counters, window_of
from nimdrum.session.exchange import Ask, Exchange, ExchangeError
from nimdrum.session.model import Model
from nimdrum.supervisor.state import EngineState, Phase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OURS = "nimdrum_"
ENGINE_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^\n]*\})? +(\S+)( +-?\d+)?")
ENGINE_COMMENT = re.compile(r"# (?:HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: .*)?")


class Family(NamedTuple):
    """A metric: what it counts, for a person and for Prometheus."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str


FAMILIES = {
    "nimdrum_engine_up": Family("gauge", "1 when the engine answers requests, else 0."),
    "nimdrum_engine_phase": Family("gauge", "1 for the state of the engine that the label names, 0 for the others."),
    "nimdrum_engine_phase_seconds": Family("gauge", "How long the engine has been in its state."),
    "nimdrum_engine_restarts": Family("gauge", "Restarts since the engine last ran well for a while."),
    "nimdrum_engine_metrics_up": Family("gauge", "1 when the engine's own metrics follow below, else 0."),
    "nimdrum_info": Family("gauge", "Always 1; the labels name this package's version, the engine and its model."),
    "nimdrum_requests_total": Family("counter", "Requests that DRUM answered, by route and HTTP status."),
    "nimdrum_request_seconds": Family("histogram", "Time from a request to the end of its answer, by route."),
    "nimdrum_rows_total": Family("counter", "Rows of predictions, by outcome."),
    "nimdrum_row_errors_total": Family("counter", "Failed rows of predictions, by kind of row error."),
    "nimdrum_tokens_total": Family("counter", "Tokens of predicted rows, by kind."),
    "nimdrum_rows_in_flight": Family("gauge", "Rows that the DRUM process which answers this has at the engine."),
    "nimdrum_window_rows": Family("gauge", "How many rows that process may have in flight."),
}
SECONDS_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


def observation(name: str, labels: Labels, seconds: float) -> dict[Sample, float]:
    """What one measured time adds to the samples of the histogram `name`."""
    bounds = [_number(bound) for bound in SECONDS_BUCKETS] + ["+Inf"]
    inside = [seconds <= bound for bound in SECONDS_BUCKETS] + [True]
    buckets = {(f"{name}_bucket", (*labels, ("le", b))): float(yes) for b, yes in zip(bounds, inside, strict=True)}
    return {**buckets, (f"{name}_sum", labels): seconds, (f"{name}_count", labels): 1.0}


def render(samples: Mapping[Sample, float]) -> str:
    """The samples as text, family by family. A family without a sample is left out, a sample without one too."""
    lines = []
    for name, family in FAMILIES.items():
        mine = [(sample, value) for sample, value in samples.items() if _family(sample[0]) == name]
        if mine:
            lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
            lines += [f"{written}{_labels(labels)} {_number(value)}" for (written, labels), value in mine]
    return "".join(f"{line}\n" for line in lines)


def engine_lines(page: str) -> str:
    """The engine's page, as far as it is valid text and takes no name of ours; OpenMetrics' end and extras are cut."""
    return "".join(f"{line}\n" for line in map(_engine_line, page.splitlines()) if line)


def _engine_line(line: str) -> str | None:
    if comment := ENGINE_COMMENT.fullmatch(line):
        return None if comment[1].startswith(OURS) else line
    line = line.split(" # {")[0].rstrip()
    sample = ENGINE_SAMPLE.fullmatch(line)
    if sample is None or sample[1].startswith(OURS):
        return None
    try:
        float(sample[3])
    except ValueError:
        return None
    return line


def _family(name: str) -> str:
    if name in FAMILIES:
        return name
    return next((name.removesuffix(end) for end in ("_bucket", "_sum", "_count") if name.endswith(end)), "")


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    written = ",".join(f'{name}="{_escape(value)}"' for name, value in labels)
    return f"{{{written}}}" if written else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))


ENGINE_TIMEOUT_SEC = 2.0
LARGEST_PAGE = 16 << 20


def page(model: Model) -> str:
    """All metrics as Prometheus text."""
    state = model.attachment.state()
    found = engine_page(model, state)
    engine = engine_lines(found.text) if found else ""
    samples = {**state_samples(state, time.time()), **counters(model).read()}
    if window := window_of(model):
        samples["nimdrum_rows_in_flight", ()], samples["nimdrum_window_rows", ()] = map(float, window)
    samples["nimdrum_engine_metrics_up", ()] = float(bool(engine))
    return render(samples) + engine


def state_samples(state: EngineState | None, now: float) -> dict[Sample, float]:
    """What the state file says, as samples. Pure."""
    phase = state.phase if state else None
    samples: dict[Sample, float] = {("nimdrum_engine_up", ()): float(phase is Phase.RUNNING)}
    for each in Phase:
        samples["nimdrum_engine_phase", (("phase", each.value),)] = float(phase is each)
    if state:
        samples["nimdrum_engine_phase_seconds", ()] = max(0.0, now - state.since)
        samples["nimdrum_engine_restarts", ()] = float(state.restarts)
        names = {"version": __version__, "engine": state.engine, "line": state.line, "model": state.model or ""}
        samples["nimdrum_info", tuple(names.items())] = 1.0
    return samples


def count_request(model: Model, route: str, status: int, seconds: float) -> None:
    """One answered request."""
    changes: dict[Sample, float] = {("nimdrum_requests_total", (("route", route), ("status", str(status)))): 1.0}
    counters(model).add({**changes, **observation("nimdrum_request_seconds", (("route", route),), seconds)})


def engine_page(model: Model, state: EngineState | None) -> Page | None:
    """The engine's own metrics, or None where it has none (or not now)."""
    if state is None or state.phase is not Phase.RUNNING:
        return None
    endpoint = Endpoint(state.host, state.port, state.model or "")

    def get(path: str) -> bytes | None:
        try:
            exchange = Exchange(endpoint, Ask("GET", path, (("Accept", "text/plain"),)), ENGINE_TIMEOUT_SEC)
        except ExchangeError:
            return None
        try:
            return exchange.read(LARGEST_PAGE) if exchange.status == 200 else None
        except ExchangeError:
            return None
        finally:
            exchange.close()

    return find_page(get, model.attachment.plan.metrics)
