"""Score with the window that finds itself against load generators with a fixed pool, on the same engine in one run.

    python benchmarks/window.py                 the fake NIM with 8, 64 and 256 slots, short and long answers, prompts
    python benchmarks/window.py --llamacpp      the embedded engine on this CPU
    python benchmarks/window.py --port 8000 --model llama8b --health /health --tokens 1,128 --pools 64,128,256,512
                                                an engine that runs (vLLM on a GPU)
    python benchmarks/window.py --from FILE ... the table and the plot of what earlier runs printed

Two load generators: a pool of plain threads (no retries, no frame), and with --hey the peer-made one of that name (a
Debian package), which sends one prompt over and over. With --processes the rows are also split over so many processes
that score at once, each with a window of its own.
"""

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
import engines
from engines import Case
from window_report import printed, report

FIELDS: dict[str, Any] = {"temperature": 0.7}
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
    """One measurement: `kind` is "window", "pool N" or "hey N"."""
    way, _, size = kind.partition(" ")
    if way == "hey":
        return hey(target, rows, int(size))
    texts = target.prompts(rows)
    if way == "pool":
        return common.fixed_pool(target.port, target.model, texts, int(size), max_tokens=target.tokens, **FIELDS)
    loaded = common.external_model(target.port, target.health, max_tokens=target.tokens, **FIELDS)
    try:
        result = common.score(loaded, texts)
        from nimdrum.scoring.traffic import _traffic

        return {**result, "found": next(iter(_traffic.values())).window.size}
    finally:
        loaded.attachment.release(10)


def hey(target: Target, rows: int, together: int) -> dict[str, Any]:
    """hey, the load generator, with `together` requests in flight; it shares the rows out evenly before it starts."""
    message = {"role": "user", "content": target.prompts(1)[0]}
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body.json")
        body.write_text(
            json.dumps({"model": target.model, "messages": [message], "max_tokens": target.tokens, **FIELDS})
        )
        rows = max(1, rows // together) * together
        line = ["hey", "-n", str(rows), "-c", str(together), "-t", "600", "-m", "POST", "-T", "application/json"]
        line += ["-D", str(body), f"http://127.0.0.1:{target.port}/v1/chat/completions"]
        text = subprocess.run(line, capture_output=True, text=True, timeout=900, check=True).stdout
    seconds = float(re.search(r"Total:\s+([0-9.]+) secs", text)[1])
    good = sum(int(count) for count in re.findall(r"\[200\]\s+(\d+) responses", text))
    return {"rows": rows, "sec": seconds, "rows_per_sec": good / seconds, "errors": rows - good}


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
    """Medians of `repeats` runs of each kind, which take turns; the best pool, and the window's share of it."""
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


def kinds_of(pools: list[int], with_hey: list[int], processes: int) -> list[str]:
    several = [f"window x {processes}"] if processes else []
    return [*(f"pool {size}" for size in pools), *(f"hey {size}" for size in with_hey), "window", *several]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--llamacpp", action="store_true", help="the embedded engine")
    parser.add_argument("--port", type=int, help="an engine that runs there")
    parser.add_argument("--model", default="fake", help="the name it serves")
    parser.add_argument("--health", default="/health", help="its health path")
    parser.add_argument("--tokens", default="1,128", help="lengths of answers")
    parser.add_argument("--words", type=int, default=0, help="words after each question")
    parser.add_argument("--pools", default="4,8,16,32", help="sizes of the fixed pools")
    parser.add_argument(
        "--hey", default="", help="numbers in flight for hey (with the fake, any value means 2 x slots)"
    )
    parser.add_argument("--processes", type=int, default=0, help="also score with so many processes at once")
    parser.add_argument("--rows", default="200,40", help="rows of a run for each of --tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slots", default="8,64,256", help="of the fake NIM")
    parser.add_argument("--seconds", type=float, default=12.0, help="about how long one run with the fake NIM takes")
    parser.add_argument("--name", default="", help="of the plot")
    parser.add_argument("--from", dest="files", nargs="+", default=[], metavar="FILE", help="what earlier runs printed")
    arguments = parser.parse_args()
    if arguments.one:
        kind, target, rows = json.loads(arguments.one)
        result = one(kind, Target(**target), rows)
        common.say({**result, "ended": time.time()})
        return
    if arguments.hey and shutil.which("hey") is None:
        parser.error("--hey needs the program hey: apt-get install hey")
    results = printed(arguments.files)
    if results:
        labels, name = list(results[0]["rates"]), arguments.name or "window-again"
        report(results, labels, name, "fixed pools and the window that finds itself", "the machine of those runs")
        return
    if arguments.port or arguments.llamacpp:
        model = "smollm2" if arguments.llamacpp else arguments.model
        kinds = kinds_of(numbers(arguments.pools), numbers(arguments.hey), arguments.processes)
        with engines.llamacpp() if arguments.llamacpp else contextlib.nullcontext(arguments.port) as port:
            common.wait_healthy(port, arguments.health)
            for tokens, rows in zip(numbers(arguments.tokens), numbers(arguments.rows), strict=True):
                target = Target(port, model, arguments.health, tokens, arguments.words)
                results.append(compare(model, target, kinds, rows, arguments.repeats))
        name = arguments.name or ("window-llamacpp" if arguments.llamacpp else "window-engine")
        report(results, kinds, name, f"{model}: fixed pools and the window that finds itself")
        return
    for case in CASES:
        if case.slots not in numbers(arguments.slots):
            continue
        sizes = [case.slots, 2 * case.slots, 4 * case.slots]
        kinds = kinds_of(sizes, [2 * case.slots] if arguments.hey else [], arguments.processes)
        with engines.fake(case) as port:
            words = LONG_PROMPT_WORDS if case.prefill_sec else 0
            target = Target(port, "fake", "/v1/health/ready", case.tokens, words)
            title = f"{case.slots} slots" + (", long prompts" if words else "")
            waves = max(1, round(case.rows_per_sec * arguments.seconds / sizes[-1]))
            rows = waves * sizes[-1]  # whole waves for every pool: else its last one is half empty
            results.append(compare(title, target, kinds, rows, arguments.repeats))
    several = [f"window x {arguments.processes}"] if arguments.processes else []
    labels = ["pool 1 x slots", "2 x", "4 x", *(["hey 2 x"] if arguments.hey else []), "window", *several]
    report(results, labels, arguments.name or "window-fake", "fake NIM: fixed pools and the window that finds itself")


if __name__ == "__main__":
    main()
