"""/metrics: the engine's state, what all DRUM processes counted, and the engine's own page."""

import time

from nimdrum import __version__
from nimdrum.session.attach import Endpoint
from nimdrum.session.counters import Sample, counters
from nimdrum.session.exchange import Ask, Exchange, ExchangeError
from nimdrum.session.model import Model
from nimdrum.supervisor.state import EngineState, Phase
from nimdrum.web.prometheus import engine_lines, observation, render

ENGINE_PATHS = ("/metrics", "/v1/metrics")  # NIM has the second, in its newest versions both
ENGINE_TIMEOUT_SEC = 2.0
LARGEST_PAGE = 16 << 20


def page(model: Model) -> str:
    """All metrics as Prometheus text."""
    state = model.attachment.state()
    engine = ""
    if state is not None and state.phase is Phase.RUNNING:
        engine = engine_lines(_engine_page(Endpoint(state.host, state.port, state.model or "")))
    samples = {**state_samples(state, time.time()), **counters(model).read()}
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


def _engine_page(endpoint: Endpoint) -> str:
    """The engine's own metrics, or nothing where it has none (or not now)."""
    for path in ENGINE_PATHS:
        try:
            exchange = Exchange(endpoint, Ask("GET", path, (("Accept", "text/plain"),)), ENGINE_TIMEOUT_SEC)
        except ExchangeError:
            return ""
        try:
            if exchange.status == 200:
                return exchange.read()[:LARGEST_PAGE].decode("utf-8", "replace")
        except ExchangeError:
            return ""
        finally:
            exchange.close()
    return ""
