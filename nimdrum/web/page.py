"""The page for people at `/`: the engine's state with its log, a prompt box, and what goes on. Where it is switched on.

Files of its own and relative addresses only, so that it works below a URL prefix and under a strict content security
policy.
"""

import time
from pathlib import Path
from typing import Any

from nimdrum import __version__
from nimdrum.engines.work import Work
from nimdrum.session.counters import Sample, counters, window_of
from nimdrum.session.model import Model
from nimdrum.supervisor.state import EngineState
from nimdrum.web.metrics import engine_page

STATIC = Path(__file__).with_name("static")
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
FILES = {
    "/": "index.html",
    "/docs": "docs.html",
    "/openapi.json": "openapi.json",
    "/page/app.js": "app.js",
    "/page/docs.js": "docs.js",
    "/page/style.css": "style.css",
}
STATE = "/page/state.json"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Answer = tuple[Any, int, dict[str, str]]
"""Body, status and headers, as Flask takes them."""


def is_of_page(path: str) -> bool:
    """Whether a path below the URL prefix is the page's alone. Pure."""
    return path == STATE or (path in FILES and path != "/")


def page(model: Model, prefix: str, path: str, accepts_html: bool) -> Answer | None:
    """The answer to a GET of `path`, or None when it is for somebody else: `/` is DRUM's health but for browsers."""
    if path in ("", "/"):
        if not accepts_html:
            return None
        if not path:  # else its relative addresses would lead elsewhere
            return "", 308, {"Location": f"{prefix}/"}
    if path == STATE:
        return seen(model), 200, HEADERS
    if (name := FILES.get(path)) is None:
        return None
    file = STATIC / name
    return file.read_bytes(), 200, {**HEADERS, "Content-Type": f"{TYPES[file.suffix]}; charset=utf-8"}


def seen(model: Model) -> dict[str, Any]:
    """What the page shows of this moment."""
    state = model.attachment.state()
    found = engine_page(model, state)
    return describe(state, found.work if found else None, counters(model).read(), window_of(model), time.time())


def describe(
    state: EngineState | None,
    work: Work | None,
    counts: dict[Sample, float],
    window: tuple[int, int] | None,
    now: float,
) -> dict[str, Any]:
    """The same as a JSON document; null is what is not known. Pure."""

    def count(name: str, label: str, value: str) -> float:
        return counts.get((name, ((label, value),)), 0.0)

    in_flight, size = window or (None, None)
    errors = {
        labels[0][1]: number
        for (name, labels), number in counts.items()
        if name == "nimdrum_row_errors_total" and labels
    }
    return {
        "version": __version__,
        "phase": state.phase.value if state else "no supervisor",
        "for_sec": max(0.0, now - state.since) if state else 0.0,
        "line": state.line if state else "",
        "model": state.model if state else None,
        "restarts": state.restarts if state else 0,
        "cause": state.cause if state else None,
        "last_lines": list(state.last_lines) if state else [],
        "running": work.running if work else None,
        "waiting": work.waiting if work else None,
        "in_flight": in_flight,
        "window": size,
        "answered": count("nimdrum_rows_total", "outcome", "answered"),
        "failed": count("nimdrum_rows_total", "outcome", "failed"),
        "tokens": count("nimdrum_tokens_total", "kind", "completion"),
        "errors": dict(sorted(errors.items())),
    }
