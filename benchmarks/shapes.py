"""A real engine's rows in three shapes: by these hooks, by a client of another kind, and without HTTP.

    python benchmarks/shapes.py --port 8000 --model llama8b             an engine that runs (vLLM on a GPU)
    python benchmarks/shapes.py --offline FOLDER --json limits.json     the same rows through vLLM's own Python, in
                                                                        the place of the engine that ran
    python benchmarks/shapes.py --port 8000 --model llama8b --limits limits.json

`one`: a question and one token. `fixed`: a question and 128 tokens. `mixed`: prompts of 5 to 1,500 words and answers
of 1 to 512 tokens, small ones as many as large ones; this is what a fixed pool cannot be tuned for. The other client
is aiohttp with so many requests in flight as --pools says. Each run is a process of its own, so what the window loses
at its start counts; runs take turns; no run sees a prompt of another, so none finds it in the engine's cache. Nobody
asks the engine to ignore the end of the text, since these hooks have no parameter for it: with random weights it does
not come, and with others the tokens a row show what came.
"""

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common

ROWS = {"one": 8192, "fixed": 4096, "mixed": 3072}
TEMPERATURE = 0.7
SEED = 15
WORDS = "rivers bread planets glass tea maps birds clocks bridges paper salt trains gardens music wool stars".split()


def rows_of(shape: str, rows: int, salt: str) -> list[tuple[str, int]]:
    """Prompts and the most tokens of their answers; always the same but for `salt`, with which each prompt begins."""
    some = random.Random(SEED)

    def spread(least: int, most: int) -> int:
        return round(math.exp(some.uniform(math.log(least), math.log(most))))

    if shape == "mixed":
        sizes = [(spread(5, 1500), spread(1, 512)) for _ in range(rows)]
        return [(f"{salt} {i} " + " ".join(some.choices(WORDS, k=n - 2)), most) for i, (n, most) in enumerate(sizes)]
    most = {"one": 1, "fixed": 128}[shape]
    return [(f"{salt} {text}", most) for text in common.prompts(rows)]


def one(kind: str, port: int, model: str, health: str, shape: str, rows: int, salt: str) -> dict[str, Any]:
    """One run; `kind` is "these hooks" or the number of requests that aiohttp has in flight."""
    asked = rows_of(shape, rows, salt)
    if kind != "these hooks":
        bodies = (common.body(model, text, most, TEMPERATURE) for text, most in asked)
        return common.aiohttp_client(port, bodies, rows, int(kind))
    most = [most for _, most in asked]
    mixed = shape == "mixed"
    loaded = common.external_model(port, health, temperature=TEMPERATURE, max_tokens=most[0], per_row_columns=mixed)
    try:
        return common.score(loaded, [text for text, _ in asked], most if mixed else None)
    finally:
        loaded.attachment.release(10)


def offline(folder: str, counts: dict[str, int], context: int, memory: float) -> dict[str, float]:
    """Rows/s of the engine by itself, for each shape."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=folder, load_format="dummy", max_num_seqs=512, max_model_len=context, gpu_memory_utilization=memory
    )
    rates = {}
    for shape, rows in counts.items():
        for salt, count in (("warm", 64), ("offline", rows)):
            asked = rows_of(shape, count, salt)
            talks: Any = [[{"role": "user", "content": text}] for text, _ in asked]
            sampling = [SamplingParams(max_tokens=most, temperature=TEMPERATURE) for _, most in asked]
            began = time.perf_counter()
            answers = engine.chat(talks, sampling, use_tqdm=False)
            seconds = time.perf_counter() - began
        rates[shape] = rows / seconds
        tokens = sum(len(answer.outputs[0].token_ids) for answer in answers) / rows
        print(f"offline, {shape}: {rates[shape]:.4g} rows/s, {tokens:.3g} tokens a row", flush=True)
    return rates


def compare(arguments: argparse.Namespace, counts: dict[str, int]) -> list[dict[str, Any]]:
    """Every run that --within-sec leaves time for, shape by shape and turn by turn."""
    kinds = [*arguments.pools.split(","), "these hooks"]
    began, runs, longest = time.monotonic(), [], dict.fromkeys(counts, 0.0)

    def run(kind: str, shape: str, rows: int, turn: int) -> dict[str, Any]:
        salt = f"{time.time_ns() % 10**9:09d}"
        words = (kind, arguments.port, arguments.model, arguments.health, shape, rows, salt)
        return {"shape": shape, "kind": kind, "turn": turn} | common.child("shapes.py", json.dumps(words))

    run(kinds[0], "one", 256, -1)  # the engine's first requests take longer
    for turn in range(arguments.repeats):
        for shape, rows in counts.items():
            for kind in kinds if turn % 2 == 0 else kinds[::-1]:
                left = arguments.within_sec - (time.monotonic() - began)
                if left < longest[shape]:
                    print(f"no time for {shape}, {kind}, turn {turn}: {left:.0f} s are left", flush=True)
                    continue
                started = time.monotonic()
                runs.append(run(kind, shape, rows, turn))
                longest[shape] = max(longest[shape], time.monotonic() - started)
                print(json.dumps(runs[-1]), flush=True)
    return runs


def report(runs: list[dict[str, Any]], limits: dict[str, float]) -> None:
    """A line for each shape and kind, and how large a share the hooks have of the best of the others."""
    lines: list[list[object]] = []
    for shape in dict.fromkeys(run["shape"] for run in runs):
        of = [run for run in runs if run["shape"] == shape]
        middle = {
            kind: common.medians([run for run in of if run["kind"] == kind])
            for kind in dict.fromkeys(run["kind"] for run in of)
        }
        best = max((m["rows_per_sec"] for kind, m in middle.items() if kind != "these hooks"), default=math.nan)
        for kind, m in middle.items():
            rate = m["rows_per_sec"]
            name = kind if kind == "these hooks" else f"aiohttp, {kind} in flight"
            shares = [100 * rate / best, 100 * rate / limits.get(shape, math.nan)]
            how_many = sum(run["kind"] == kind for run in of)
            found = m.get("found", math.nan)
            figures = [m["tokens"] / m["rows"], rate, *shares, m["cpu_ms_per_row"], found, m["errors"], how_many]
            lines.append([shape, f"{m['rows']:,.0f}", name, *figures])
    columns = ["shape", "rows", "client", "tokens a row", "rows/s", "% of best", "% of offline", "CPU ms/row"]
    print(common.table([*columns, "found", "errors", "runs"], lines))
    print(f"medians; {common.machine()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help="an engine that runs there")
    parser.add_argument("--model", default="fake", help="the name it serves")
    parser.add_argument("--health", default="/health", help="its health path")
    parser.add_argument("--offline", metavar="FOLDER", help="the model to run here without HTTP, with random weights")
    parser.add_argument("--context", type=int, default=8192, help="of the engine without HTTP")
    parser.add_argument("--memory", type=float, default=0.85, help="its share of the GPU's")
    parser.add_argument("--shapes", default="one,fixed,mixed")
    parser.add_argument("--rows", default="", help="of a run, for each of --shapes (8192,4096,3072)")
    parser.add_argument("--pools", default="128,512", help="requests that aiohttp keeps in flight")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--within-sec", type=float, default=480.0, help="begin no run that may end later")
    parser.add_argument("--limits", type=Path, help="what --offline --json wrote")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    if arguments.one:
        common.say(one(*json.loads(arguments.one)))
        return
    shapes = arguments.shapes.split(",")
    rows = [int(count) for count in arguments.rows.split(",")] if arguments.rows else [ROWS[shape] for shape in shapes]
    counts = dict(zip(shapes, rows, strict=True))
    if arguments.offline:
        figures: Any = offline(arguments.offline, counts, arguments.context, arguments.memory)
    else:
        common.wait_healthy(arguments.port, arguments.health)
        figures = compare(arguments, counts)
        report(figures, json.loads(arguments.limits.read_text()) if arguments.limits else {})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
