"""What an engine's metrics page says of its work: how much runs, how much waits, and whether anything moves. Pure."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Metrics:
    """Where an engine keeps its metrics page, and its names there without prefix and labels."""

    paths: tuple[str, ...]
    """The first that answers is the one."""
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    progress: tuple[str, ...]
    """Counters of which at least one grows while the engine works. Prompt tokens are not among them: an engine may
    count those when it accepts a request that it never answers."""


KNOWN = Metrics(
    paths=("/v1/metrics", "/metrics"),
    running=("num_requests_running", "requests_processing"),
    waiting=("num_requests_waiting", "requests_deferred"),
    progress=("generation_tokens_total", "request_success_total", "tokens_predicted_total", "n_decode_total"),
)
"""Names of vLLM (NIM 2.x and 3.x), of NIM 1.x (vLLM's without the prefix) and of llama.cpp's server."""

LINE = re.compile(r"(?:\w+:)?(\w+)(?:\{[^}]*\})?[ \t]+(\S{1,40})(?:[ \t]+-?\d+)?[ \t]*")
MOST = 1e15
"""A larger number counts nothing that an engine has or does; nor do those below zero and those that are none."""


@dataclass(frozen=True)
class Work:
    """One look at the page; summed over its labels. None where the page does not tell."""

    running: float | None
    waiting: float | None
    progress: float | None
    """A number that only grows, and grows whenever tokens are made or requests end."""


@dataclass(frozen=True)
class Page:
    """A metrics page as it was found."""

    path: str
    text: str
    work: "Work"


def find_page(get: Callable[[str], bytes | None], metrics: Metrics = KNOWN, path: str | None = None) -> Page | None:
    """The page on the one of the engine's paths that tells of its work, else the first that there is, else None.

    `get` gives the body of an answer 200, None for any other and for none, and does not raise. With `path`, which an
    earlier search found, only that one is read.
    """
    other = None
    for each in (path,) if path else metrics.paths:
        if (body := get(each)) is not None:
            text = body.decode("utf-8", "replace")
            page = Page(each, text, read_work(text, metrics))
            if page.work != Work(None, None, None):
                return page
            other = other or page
    return other


def read_work(page: str, metrics: Metrics = KNOWN) -> Work:
    """The figures on a Prometheus text page; all None when it holds none of the known names."""
    kinds = (metrics.running, metrics.waiting, metrics.progress)
    sums: dict[tuple[str, ...], float] = {}
    for line in page.splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            continue
        for names in kinds:
            if match[1] in names:
                with suppress(ValueError):
                    sums[names] = sums.get(names, 0.0) + float(match[2])
    running, waiting, progress = (_counted(sums.get(names)) for names in kinds)
    return Work(running, waiting, progress)


def _counted(number: float | None) -> float | None:
    return number if number is not None and 0 <= number <= MOST else None
