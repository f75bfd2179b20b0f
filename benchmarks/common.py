"""What the benchmarks share: a model of the hooks for a running engine, a client of another kind, tables, plots.

Every measurement runs in a process of its own (`python benchmarks/NAME.py --one ...`), prints one JSON line and is
repeated in turns with the others, so that noise of the machine meets all of them alike. Medians are reported.
"""

import asyncio
import atexit
import json
import logging
import math
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
PLOTS = ROOT / "docs" / "performance"
QUESTION = "What is the capital of country number {}? Answer in one sentence."
PATH = "/v1/chat/completions"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


def machine() -> str:
    """The machine in words: figures are worth nothing without it."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{len(os.sched_getaffinity(0))} cores of {cpu}, Python {platform.python_version()}"


def prompts(rows: int) -> list[str]:
    return [QUESTION.format(i) for i in range(rows)]


def external_model(port: int, health: str = "/v1/health/ready", width: int = 0, **parameters: Any) -> Any:
    """The hooks' model for an engine on loopback, from the same pieces as `load_model` but without DRUM.

    With `width` the window is not looked for: so many rows are in flight.
    """
    from nimdrum.base.hosting import Hosting
    from nimdrum.base.settings import load_settings
    from nimdrum.engines.choose import plan_engine
    from nimdrum.engines.plan import Bounds
    from nimdrum.session.attach import attach
    from nimdrum.session.model import Model

    state = Path(tempfile.mkdtemp(prefix="nimdrum-bench-"))
    atexit.register(shutil.rmtree, state, ignore_errors=True)
    hosting = Hosting(
        code_dir=ROOT,
        server=False,
        gunicorn_master=None,
        error_server=False,
        target_column="resultText",
        request_timeout_sec=None,
        drum_port=None,
        image_root=state,
        state_root=state,
        environ={"PATH": os.defpath},
    )
    given = {"engine": "external", "DR_NIM_SERVER_PORT": port, "DR_NIM_SERVER_HOST": "127.0.0.1"}
    settings = load_settings(ROOT, {**given, "DR_NIM_HEALTH_ROUTE": health, "max_concurrency": width, **parameters}.get)
    plan = plan_engine(settings, hosting)
    if width:
        plan = replace(plan, bounds=Bounds(width, width, width, width))
    model = Model(settings, hosting, attach(plan, ROOT, state, None))
    model.ready(60)
    return model


class Sizes(logging.Handler):
    """The window's size, as the log tells it; nan when it never moved."""

    def __init__(self) -> None:
        super().__init__()
        self.last = math.nan

    def emit(self, record: logging.LogRecord) -> None:
        if moved := re.match(r"window\.moved to=(\d+)", record.getMessage()):
            self.last = int(moved[1])


def score(model: Any, texts: list[str], tokens: list[int] | None = None) -> dict[str, float]:
    """Score `texts` over the whole path, frame in and frame out; each row with its own max_tokens if `tokens` say so.

    Seconds, CPU seconds, errors, memory, tokens of the answers, and the size of the window.
    """
    import pandas as pd

    from nimdrum.scoring.score import score_frame

    columns: dict[str, Any] = {"promptText": texts} | ({"max_tokens": [str(n) for n in tokens]} if tokens else {})
    frame, sizes, out = pd.DataFrame(columns, dtype=object), Sizes(), []

    def work() -> int:
        out.append(score_frame(frame, model))
        return errors_in(out[0]["row_error"])

    logging.getLogger("nimdrum").addHandler(sizes)
    result = timed(work, len(texts))
    made = sum(int(number or 0) for number in out[0]["completion_tokens"])
    return {**result, "tokens": made, "found": sizes.last}


def errors_in(row_errors: Iterable[str]) -> int:
    """Rows that failed. An answer without text is none: a model with random weights gives those."""
    return sum(1 for error in row_errors if error and not error.startswith("empty_answer"))


def body(model: str, text: str, tokens: int, temperature: float) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps(
        {"model": model, "messages": [message], "max_tokens": tokens, "temperature": temperature}
    ).encode()


def aiohttp_client(port: int, bodies: Iterator[bytes], rows: int, width: int) -> dict[str, float]:
    """A client of another kind: asyncio, always `width` requests in flight, no retries, no frame."""
    import aiohttp

    errors, tokens = 0, 0

    async def run() -> None:
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=900)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=HEADERS) as session:

            async def work() -> None:
                nonlocal errors, tokens
                for data in bodies:
                    try:
                        async with session.post(f"http://127.0.0.1:{port}{PATH}", data=data) as reply:
                            answer = json.loads(await reply.read())
                            assert answer["choices"][0]["message"], answer
                            tokens += answer["usage"]["completion_tokens"]
                    except Exception:
                        errors += 1

            await asyncio.gather(*[work() for _ in range(min(width, rows))])

    def whole() -> int:
        asyncio.run(run())
        return errors

    return {**timed(whole, rows), "tokens": tokens}


def timed(work: Callable[[], int], rows: int) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    errors = work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows,
        "sec": seconds,
        "rows_per_sec": rows / seconds,
        "cpu_ms_per_row": 1000 * cpu / rows,
        "errors": errors,
        "peak_mb": peak,
    }


def child(script: str, *arguments: object, timeout_sec: float = 900) -> dict[str, Any]:
    """One measurement in a process of its own: the last line that it prints is its JSON."""
    line = [sys.executable, str(ROOT / "benchmarks" / script), "--one", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=timeout_sec, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{line} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number over repeated runs; errors are added up."""
    out = {key: statistics.median(run[key] for run in runs) for key in runs[0] if not isinstance(runs[0][key], str)}
    out["errors"] = sum(run.get("errors", 0) for run in runs)
    return out


def table(columns: list[str], rows: list[list[object]]) -> str:
    """A Markdown table, for the terminal and for docs/performance.md."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plot(name: str, draw: Callable[[Any], None], title: str) -> None:
    """Write docs/performance/NAME.png; without matplotlib say so and go on."""
    try:
        import matplotlib
    except ImportError:
        print(f"(no plot {name}.png: matplotlib is not installed)")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    draw(axes)
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    PLOTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOTS / f"{name}.png", dpi=110)
    print(f"wrote {(PLOTS / f'{name}.png').relative_to(ROOT)}")


def say(result: dict[str, Any]) -> None:
    """The answer of a child to `child`."""
    print(json.dumps(result), flush=True)


def wait_healthy(port: int, path: str, timeout_sec: float = 120.0) -> None:
    """Until the engine answers 200 on `path`. Raises TimeoutError."""
    import http.client

    deadline = time.monotonic() + timeout_sec
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise TimeoutError(f"no 200 on {path} of port {port} within {timeout_sec:g} s")
