"""What the engine says about itself, for one line in the log once it is ready."""

import json
from collections.abc import Mapping
from typing import Any

from nimdrum.base.log import event, get_logger
from nimdrum.session.attach import Endpoint
from nimdrum.session.exchange import Ask, Exchange, ExchangeError

TIMEOUT_SEC = 3.0
PAGES = ("/v1/version", "/version", "/v1/metadata", "/v1/models", "/props")
"""NIM, vLLM, NIM, all of them, llama.cpp."""

log = get_logger("engine")


def log_facts(line: str, endpoint: Endpoint) -> None:
    """Log `engine.facts` with what the engine tells; what it does not tell is left out."""
    found = facts({path: fetch_json(endpoint, path) for path in PAGES}, endpoint.model)
    event(log, "engine.facts", line=line, model=endpoint.model, url=endpoint.url, **found)


def facts(pages: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Version, profile and longest context from the engine's pages (decoded JSON, or None). Pure."""
    listed = _field(pages.get("/v1/models"), "data")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    entry = next((entry for entry in entries if entry.get("id") == model), {})
    metadata, props = pages.get("/v1/metadata"), pages.get("/props")
    found = {
        "version": _field(pages.get("/v1/version"), "release")
        or _field(pages.get("/version"), "version")
        or _field(metadata, "version")
        or _field(props, "build_info"),
        "profile": _field(metadata, "selectedModelProfileId"),
        "max_model_len": entry.get("max_model_len")
        or _field(_field(props, "default_generation_settings"), "n_ctx")
        or _field(entry.get("meta"), "n_ctx"),
        "root": entry.get("root") if entry.get("root") != model else None,
    }
    return {name: value for name, value in found.items() if isinstance(value, str | int) and value}


def fetch_json(endpoint: Endpoint, path: str) -> Any:
    """The JSON on a page of the engine; None where there is none."""
    try:
        exchange = Exchange(endpoint, Ask("GET", path), TIMEOUT_SEC)
    except ExchangeError:
        return None
    try:
        return json.loads(exchange.read()) if exchange.status == 200 else None
    except (ExchangeError, ValueError, RecursionError):
        return None
    finally:
        exchange.close()


def _field(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None
