"""Score with the window that finds itself against a client with a fixed number in flight, on engines of this machine.

    python benchmarks/window.py                 the fake NIM with 8, 64 and 256 slots, short and long answers, prompts
    python benchmarks/window.py --llamacpp      the embedded engine on this CPU

For a real engine on a GPU: shapes.py. The other client is aiohttp (no retries, no frame). With --processes the rows are
also split over so many processes that score at once, each with a window of its own.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
import engines
from engines import Case
from window_report import report

TEMPERATURE = 0.7
LONG_PROMPT_WORDS = 1500


@dataclass(frozen=True)
class Target:
    """The engine of a measurement, and what it is asked for: `words` follow each question (before it: cached)."""

    port: int
    model: str
    health: str
    tokens: int
    words: int = 0

    def prompts(self, rows: int) -> list[str]:
        return [f"{text}{' word' * self.words}" for text in common.prompts(rows)]


# With 256 slots a token takes longer: one Python process beside the client can't answer 5,000 requests a second.
CASES = (
    *(Case(8, 0.05, 1), Case(8, 0.02, 32)),
    *(Case(64, 0.05, 1), Case(64, 0.02, 32), Case(64, 0.05, 1, prefill_sec=0.4), Case(64, 0.02, 32, prefill_sec=0.4)),
    *(Case(256, 0.2, 1), Case(256, 0.02, 32)),
)


def one(kind: str, target: Target, rows: int) -> dict[str, Any]:
    """One measurement: `kind` is "window" or "aiohttp N"."""
    way, _, size = kind.partition(" ")
    texts = target.prompts(rows)
    if way == "aiohttp":
        bodies = (common.body(target.model, text, target.tokens, TEMPERATURE) for text in texts)
        return common.aiohttp_client(target.port, bodies, rows, int(size))
    loaded = common.external_model(target.port, target.health, max_tokens=target.tokens, temperature=TEMPERATURE)
    try:
        return common.score(loaded, texts)
    finally:
        loaded.attachment.release(10)


def measure(kind: str, target: Target, rows: int) -> dict[str, Any]:
    """`one` in a process of its own; "window x N" in N processes at once, each with its share of the rows."""
    way, _, count = kind.partition(" x ")
    if not count:
        return common.child("window.py", json.dumps([kind, asdict(target), rows]))
    many = int(count)
    with ThreadPoolExecutor(many) as pool:
        jobs = [pool.submit(measure, way, target, rows // many) for _ in range(many)]
        results = [job.result() for job in jobs]
    rates = [result["rows_per_sec"] for result in results]
    seconds = max(r["ended"] for r in results) - min(r["ended"] - r["sec"] for r in results)
    return {
        "rows_per_sec": rows // many * many / seconds,
        "errors": sum(result["errors"] for result in results),
        "fairness": min(rates) / max(rates),
    }


def compare(title: str, target: Target, kinds: list[str], rows: int, repeats: int) -> dict[str, Any]:
    """Medians of `repeats` runs of each kind, which take turns."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for turn in range(repeats):
        for kind in kinds if turn % 2 == 0 else kinds[::-1]:
            run = measure(kind, target, rows)
            runs.setdefault(kind, []).append(run)
            print(f"{title}, {target.tokens} tokens, {kind}: {run['rows_per_sec']:.4g} rows/s", flush=True)
    middle = {kind: common.medians(results) for kind, results in runs.items()}
    result = {
        "title": title,
        "tokens": target.tokens,
        "rows": rows,
        "rates": {kind: result["rows_per_sec"] for kind, result in middle.items()},
        "all": {kind: [round(run["rows_per_sec"], 2) for run in results] for kind, results in runs.items()},
        "found": middle["window"]["found"],
        "fairness": [result["fairness"] for result in middle.values() if "fairness" in result],
        "errors": sum(result["errors"] for result in middle.values()),
    }
    print(json.dumps(result), flush=True)
    return result


def kinds_of(widths: list[int], processes: int) -> list[str]:
    several = [f"window x {processes}"] if processes else []
    return [*(f"aiohttp {width}" for width in widths), "window", *several]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--llamacpp", action="store_true", help="the embedded engine")
    parser.add_argument("--tokens", default="1,128", help="lengths of llama.cpp's answers")
    parser.add_argument("--rows", default="200,40", help="rows of a run for each of --tokens")
    parser.add_argument("--widths", default="4,8,16", help="numbers in flight of the other client with llama.cpp")
    parser.add_argument("--slots", default="8,64,256", help="of the fake NIM")
    parser.add_argument("--seconds", type=float, default=12.0, help="about how long one run with the fake NIM takes")
    parser.add_argument("--processes", type=int, default=0, help="also score with so many processes at once")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.one:
        kind, target, rows = json.loads(arguments.one)
        result = one(kind, Target(**target), rows)
        common.say({**result, "ended": time.time()})
        return
    results = []
    if arguments.llamacpp:
        kinds = kinds_of(numbers(arguments.widths), arguments.processes)
        with engines.llamacpp() as port:
            common.wait_healthy(port, "/health")
            for tokens, rows in zip(numbers(arguments.tokens), numbers(arguments.rows), strict=True):
                target = Target(port, "smollm2", "/health", tokens)
                results.append(compare("llama.cpp", target, kinds, rows, arguments.repeats))
        report(results, kinds, "window-llamacpp", "llama.cpp: fixed numbers in flight and the window that finds itself")
        return
    for case in CASES:
        if case.slots not in numbers(arguments.slots):
            continue
        widths = [case.slots, 2 * case.slots, 4 * case.slots]
        kinds = kinds_of(widths, arguments.processes)
        with engines.fake(case) as port:
            words = LONG_PROMPT_WORDS if case.prefill_sec else 0
            target = Target(port, "fake", "/v1/health/ready", case.tokens, words)
            title = f"{case.slots} slots" + (", long prompts" if words else "")
            waves = max(1, round(case.rows_per_sec * arguments.seconds / widths[-1]))
            rows = waves * widths[-1]  # whole waves for every width: else the last one is half empty
            results.append(compare(title, target, kinds, rows, arguments.repeats))
    several = [f"window x {arguments.processes}"] if arguments.processes else []
    labels = ["aiohttp 1 x slots", "2 x", "4 x", "window", *several]
    report(results, labels, "window-fake", "fake NIM: fixed numbers in flight and the window that finds itself")


if __name__ == "__main__":
    main()
