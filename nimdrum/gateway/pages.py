"""What the gateway says of itself: health with the count, the models, metrics for each endpoint. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nimdrum.engines.work import KNOWN
from nimdrum.gateway.endpoint import Endpoint

HEALTH, METRICS = "/v1/health/ready", KNOWN.paths
SHOWN_TROUBLES = 3

FIGURES: tuple[tuple[str, str, str, Callable[[Endpoint], float | None]], ...] = (
    ("up", "gauge", "1 when the endpoint gets requests, else 0", lambda e: float(e.is_up)),
    ("in_flight", "gauge", "requests of ours at the endpoint", lambda e: e.window.in_flight),
    ("window", "gauge", "most requests of ours at once", lambda e: e.window.size),
    ("running", "gauge", "requests that the endpoint runs, anybody's", lambda e: e.running),
    ("waiting", "gauge", "requests that wait in the endpoint, anybody's", lambda e: e.waiting),
    ("answer_seconds", "gauge", "what an answer takes of late", lambda e: e.seconds or None),
    ("requests_per_minute", "gauge", "the pace that was told or learned", lambda e: e.pace.per_minute),
    ("answered_total", "counter", "requests that the endpoint answered", lambda e: e.answered),
    ("refused_total", "counter", "requests that the endpoint refused as too many (429)", lambda e: e.refused),
    ("failed_total", "counter", "requests that the endpoint failed", lambda e: e.failed),
)


def health(endpoints: Sequence[Endpoint]) -> tuple[int, dict[str, Any]]:
    """200 while one answers."""
    up = sum(each.is_up for each in endpoints)
    troubles = [
        each.trouble.sentence if each.trouble else f"{each.shown} was not looked at yet."
        for each in endpoints
        if not each.is_up
    ]
    said = f"{up} of {len(endpoints)} endpoints answer" if len(endpoints) > 1 or not up else "the endpoint answers"
    if troubles:
        more = f" And {len(troubles) - SHOWN_TROUBLES} more." if len(troubles) > SHOWN_TROUBLES else ""
        said += ": " + " ".join(troubles[:SHOWN_TROUBLES]) + more
    told = [
        {
            "address": each.shown,
            "up": each.is_up,
            "model": each.model,
            "in_flight": each.window.in_flight,
            "window": each.window.size,
            "requests_per_minute": each.pace.per_minute,
            "trouble": each.trouble.sentence if each.trouble else None,
        }
        for each in endpoints
    ]
    return 200 if up else 503, {"object": "health.response", "message": said, "endpoints": told}


def models(listed: Iterable[dict[str, Any]], theirs: str, ours: str) -> dict[str, Any]:
    """An endpoint's list, in which the model has the name that callers use, and stands first."""
    entries = [dict(each) for each in listed]
    mine = next((each for each in entries if each.get("id") == theirs), {"object": "model", "owned_by": "external"})
    return {
        "object": "list",
        "data": [{**mine, "id": ours}, *(e for e in entries if e.get("id") not in (theirs, ours))],
    }


def metrics(endpoints: Sequence[Endpoint], waiting: int) -> str:
    """Prometheus text. The first two are read by each DRUM process, whose window they move.

    What waits in an endpoint runs, as they see it: it is its own window that keeps that short. And what waits for one
    that is away for a moment does not count: their windows would shrink, and be too small once it is back.
    """
    kept = sum(each.kept_places for each in endpoints)
    lines = [
        "# TYPE num_requests_running gauge",
        f"num_requests_running {sum(each.window.in_flight for each in endpoints)}",
        "# TYPE num_requests_waiting gauge",
        f"num_requests_waiting {max(0, waiting - kept)}",
    ]
    for name, kind, what, read in FIGURES:
        values = [(each.shown, value) for each in endpoints if (value := read(each)) is not None]
        if values:
            lines += [f"# HELP gateway_endpoint_{name} {what}.", f"# TYPE gateway_endpoint_{name} {kind}"]
            lines += [
                f'gateway_endpoint_{name}{{endpoint="{_escaped(shown)}"}} {value:.10g}' for shown, value in values
            ]
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
