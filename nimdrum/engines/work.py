"""What an engine's metrics page says about its work: how much runs, how much waits, and whether anything moves. Pure.

Names of vLLM (NIM 2.x and 3.x), of NIM 1.x (vLLM's without the prefix) and of llama.cpp's server.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

PATHS = ("/v1/metrics", "/metrics")
"""Where engines keep the page; the first that answers is the one."""

RUNNING = frozenset(("num_requests_running", "requests_processing"))
WAITING = frozenset(("num_requests_waiting", "requests_deferred"))
PROGRESS = frozenset(("generation_tokens_total", "request_success_total", "tokens_predicted_total", "n_decode_total"))
"""Counters of which at least one grows while an engine works. Prompt tokens are not among them: an engine may count
those when it accepts a request that it never answers."""

LINE = re.compile(r"^(?:\w+:)?(\w+)(?:\{[^}]*\})?\s+([0-9.eE+-]+|\+?Inf|NaN)\s*(?:\d+)?$")


@dataclass(frozen=True)
class Work:
    """One look at the page; summed over its labels. None where the page does not tell."""

    running: float | None
    waiting: float | None
    progress: float | None
    """A number that only grows, and grows whenever tokens are made or requests end."""


def read_work(page: str) -> Work:
    """The figures on a Prometheus text page; all None when it holds none of the known names."""
    sums: dict[frozenset[str], float] = {}
    for line in page.splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        for names in (RUNNING, WAITING, PROGRESS):
            if match[1] in names:
                with suppress(ValueError):  # 1.2.3 looks like a number
                    sums[names] = sums.get(names, 0.0) + float(match[2])
    return Work(sums.get(RUNNING), sums.get(WAITING), sums.get(PROGRESS))
