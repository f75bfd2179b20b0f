"""How long a request of one row takes beside a batch in the same process, and what the batch needs.

    python benchmarks/beside.py [--rows 100000] [--delay 0.1,0.5] [--width 512]

The server answers each request after --delay seconds, however many there are, so that a row waits for nothing but its
place. Single rows go one after another, first alone and then while the batch runs: in threads, and under gevent.
"Beyond the data" is what the process grew by during the batch, less the size of the output frame.
"""

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import Any

if "gevent" in sys.argv:  # a child that is to use it; before anything else is imported
    from gevent import monkey

    monkey.patch_all()
sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
from zero_server import slow_server

MODES = ("threads", "gevent")
PAUSE_SEC = 0.05
SETTLING_SEC = 2.0
"""The batch finds its size before single rows are timed beside it."""


def one(mode: str, port: int, rows: int, width: int, alone: int) -> dict[str, Any]:
    import pandas as pd
    import psutil

    from nimdrum.scoring.score import score_frame

    model, process = common.external_model(port, width=width, max_tokens=64, temperature=0), psutil.Process()
    batch: dict[str, Any] = {"errors": 0}
    threads = 0

    def single() -> float:
        began = time.perf_counter()
        out = score_frame(pd.DataFrame({"promptText": ["one row"]}, dtype=object), model)
        batch["errors"] += common.errors_in(out["row_error"])
        return time.perf_counter() - began

    def whole() -> None:
        def work() -> int:
            batch["out"] = score_frame(frame, model)
            return common.errors_in(batch["out"]["row_error"])

        batch["result"] = common.timed(work, rows)

    try:
        common.score(model, common.prompts(50))
        before = [single() for _ in range(alone)]
        frame = pd.DataFrame({"promptText": common.prompts(rows)}, dtype=object)
        rss = process.memory_info().rss / 2**20
        runner = threading.Thread(target=whole)
        runner.start()
        runner.join(SETTLING_SEC)
        beside = []
        while runner.is_alive():
            threads = max(threads, process.num_threads())
            beside.append(single())
            runner.join(PAUSE_SEC)
    finally:
        model.attachment.release(10)
    result, size = batch["result"], batch["out"].memory_usage(deep=True).sum() / 2**20
    return {
        **{"alone_p50": quantile(before, 0.5), "alone_p95": quantile(before, 0.95), "singles": len(beside)},
        **{"beside_p50": quantile(beside, 0.5), "beside_p95": quantile(beside, 0.95), "threads": threads},
        **{"rows_per_sec": result["rows_per_sec"], "errors": batch["errors"] + result["errors"]},
        "beyond_mb": float(result["peak_mb"] - rss - size),
    }


def quantile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=100_000, help="of the batch")
    parser.add_argument("--delay", default="0.1,0.5", help="seconds after which the server answers, from and to")
    parser.add_argument("--width", type=int, default=512, help="rows in flight")
    parser.add_argument("--alone", type=int, default=40, help="single rows before the batch")
    arguments = parser.parse_args()
    if arguments.one:
        mode, *numbers = arguments.one
        common.say(one(mode, *map(int, numbers)))
        return
    least, most = (float(part) for part in arguments.delay.split(","))
    lines: list[list[object]] = []
    with slow_server(least, most) as port:
        for mode in MODES:
            r = common.child("beside.py", mode, port, arguments.rows, arguments.width, arguments.alone)
            seconds = [r["alone_p50"], r["alone_p95"], r["beside_p50"], r["beside_p95"]]
            more = [r["rows_per_sec"], r["beyond_mb"], r["threads"], r["singles"], r["errors"]]
            lines.append([mode, *seconds, r["beside_p95"] / r["alone_p95"], *more])
    columns = ["mode", "alone p50, s", "p95", "beside p50, s", "p95", "times", "batch rows/s", "beyond the data MB"]
    print(common.table([*columns, "threads", "single rows", "errors"], lines))
    print(
        f"{arguments.rows:,} rows beside, {arguments.width} in flight, answers after {least:g} to {most:g} s; one run"
    )
    print(common.machine())


if __name__ == "__main__":
    main()
