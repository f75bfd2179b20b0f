"""/metrics: the engine's state, what all DRUM processes counted, and the engine's own page."""

import time
from typing import TYPE_CHECKING

from nimdrum import __version__
from nimdrum.supervisor.attach import Endpoint
from nimdrum.supervisor.state import EngineState, Phase
from nimdrum.web.counters import Counters, Sample
from nimdrum.web.exchange import Ask, Exchange, ExchangeError
from nimdrum.web.prometheus import engine_lines, observation, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimdrum.hooks import Model
    from nimdrum.scoring.row import Result

ENGINE_PATHS = ("/metrics", "/v1/metrics")  # NIM has the second, in its newest versions both
ENGINE_TIMEOUT_SEC = 2.0
LARGEST_PAGE = 16 << 20


def counters(model: "Model") -> Counters:
    """The counters of this engine's DRUM processes."""
    return Counters(model.attachment.run_dir.path / "counters.json")


def page(model: "Model") -> str:
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


def count_request(model: "Model", route: str, status: int, seconds: float) -> None:
    """One answered request."""
    changes: dict[Sample, float] = {("nimdrum_requests_total", (("route", route), ("status", str(status)))): 1.0}
    counters(model).add({**changes, **observation("nimdrum_request_seconds", (("route", route),), seconds)})


def count_rows(model: "Model", results: "Sequence[Result]") -> None:
    """The rows of one prediction."""
    from nimdrum.scoring.answer import Completion

    answers = [result for result in results if isinstance(result, Completion)]
    sums = {
        ("nimdrum_rows_total", (("outcome", "answered"),)): len(answers),
        ("nimdrum_rows_total", (("outcome", "failed"),)): len(results) - len(answers),
        ("nimdrum_tokens_total", (("kind", "prompt"),)): sum(answer.prompt_tokens or 0 for answer in answers),
        ("nimdrum_tokens_total", (("kind", "completion"),)): sum(answer.completion_tokens or 0 for answer in answers),
    }
    counters(model).add({sample: float(value) for sample, value in sums.items()})


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
