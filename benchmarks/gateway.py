"""What the gateway costs: rows through it and past it, and a first byte.

    python benchmarks/gateway.py [--rows 5000] [--width 64] [--repeats 3]

The server answers each request after --delay seconds, however many there are, and names it as vLLM does. "CPU" is
that of the gateway's process alone, in ms for each row. A single request, one after another, tells what the hop adds.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
from zero_server import slow_server


def one(way: str, port: int, rows: int, width: int) -> dict[str, Any]:
    """In a process of its own."""
    import psutil

    from nimdrum.session.client import EngineClient

    through = {"engine_urls": f"http://127.0.0.1:{port}", "DR_NIM_SERVER_PORT": 0, "DR_NIM_SERVER_HOST": None}
    given = through if way == "gateway" else {}
    model = common.external_model(port, width=width, max_tokens=64, temperature=0, **given)
    try:
        endpoint = model.ready(60)
        common.score(model, common.prompts(1000))
        pid = model.attachment.state().engine_pid
        process = psutil.Process(pid) if pid else None
        before = sum(process.cpu_times()[:2]) if process else 0.0
        result: dict[str, Any] = dict(common.score(model, common.prompts(rows)))
        result["gateway_ms"] = (sum(process.cpu_times()[:2]) - before) / rows * 1000 if process else 0.0
        client, body = EngineClient(endpoint.host, endpoint.port), common.body(endpoint.model, "one", 64, 0)
        times = []
        for _ in range(200):
            began = time.perf_counter()
            client.send(body, 60)
            times.append(time.perf_counter() - began)
        client.close_idle()
        result["single_ms"] = statistics.median(times) * 1000
        return result
    finally:
        model.attachment.release(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=("direct", "gateway"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        common.say(one(options.one, options.port, options.rows, options.width))
        return
    print(common.machine())
    lines: list[list[object]] = []
    with slow_server(options.delay, options.delay) as port:
        for way in ("direct", "gateway"):
            asked = (way, "--port", port, "--rows", options.rows, "--width", options.width)
            found = common.medians([common.child("gateway.py", *asked) for _ in range(options.repeats)])
            lines.append([way, found["rows_per_sec"], found["gateway_ms"], found["single_ms"]])
    print(common.table(["way", "rows/s", "CPU of the gateway, ms a row", "one request, ms"], lines))


if __name__ == "__main__":
    main()
