"""Score with the window that finds itself against a load generator with a fixed pool, on the same engine in one run.

python benchmarks/window.py                 the fake NIM with 8, 64 and 256 slots, short and long answers
python benchmarks/window.py --llamacpp      the embedded engine on this CPU
python benchmarks/window.py --port 8000 --model llama8b --health /health --tokens 1,128 --pools 64,128,256,512
                                            an engine that runs (vLLM on a GPU)
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common

FIELDS: dict[str, Any] = {"temperature": 0.7}


def one(kind: str, port: int, model: str, health: str, tokens: int, rows: int, warm: int) -> dict[str, Any]:
    """One measurement: `kind` is "window", or the size of a fixed pool."""
    texts = common.prompts(rows)
    if kind != "window":
        return common.fixed_pool(port, model, texts, int(kind), max_tokens=tokens, **FIELDS)
    loaded = common.external_model(port, health, max_tokens=tokens, **FIELDS)
    try:
        result = common.score(loaded, texts)
        from nimdrum.scoring.traffic import _traffic

        result["found"] = next(iter(_traffic.values())).window.size
        return result
    finally:
        loaded.attachment.release(10)


def compare(
    title: str, port: int, model: str, health: str, tokens: int, pools: list[int], rows: int, repeats: int
) -> list[object]:
    """A line for the table: the best pool, the window, and their ratio; the pools in turns with the window."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for turn in range(repeats):
        kinds = [str(pool) for pool in pools] + ["window"]
        for kind in kinds if turn % 2 == 0 else kinds[::-1]:
            runs.setdefault(kind, []).append(common.child("window.py", kind, port, model, health, tokens, rows, 0))
    middle = {kind: common.medians(results) for kind, results in runs.items()}
    rates = {kind: result["rows_per_sec"] for kind, result in middle.items()}
    errors = sum(result["errors"] for result in middle.values())
    best = max(pools, key=lambda pool: rates[str(pool)])
    line = [title, tokens, rows, *[rates[str(pool)] for pool in pools], rates["window"], middle["window"]["found"]]
    line += [100 * rates["window"] / rates[str(best)], errors]
    print(
        json.dumps({"title": title, "tokens": tokens, "rows": rows, "rates": rates, "found": middle["window"]["found"]})
    )
    return line


def report(lines: list[list[object]], pools: list[int], name: str, title: str) -> None:
    columns = [
        "engine",
        "tokens",
        "rows",
        *[f"pool {pool}" for pool in pools],
        "window",
        "found",
        "% of best",
        "errors",
    ]
    print(common.table(columns, lines))
    print(f"rows/s, medians; {common.machine()}")

    def draw(axes: Any) -> None:
        width = 0.8 / (len(pools) + 1)
        for number in range(len(pools) + 1):
            label = pools[number] if number < len(pools) else "window that finds itself"
            heights = [
                float(str(line[3 + number])) / max(float(str(v)) for v in line[3 : 4 + len(pools)]) for line in lines
            ]
            color = "tab:green" if number == len(pools) else str(0.8 - 0.6 * number / len(pools))
            axes.bar([i + number * width for i in range(len(lines))], heights, width, label=label, color=color)
        axes.set_xticks(
            [i + 0.4 for i in range(len(lines))], [f"{line[0]}\n{line[1]} tokens" for line in lines], fontsize=8
        )
        axes.set_ylabel("rows/s, share of the best")
        axes.legend(fontsize=8, loc="lower left")

    common.plot(name, draw, title)


@contextlib.contextmanager
def fake(slots: int, seconds_per_token: float, tokens: int) -> Iterator[int]:
    from fake_nim.config import FakeNimConfig
    from fake_nim.run import fake_nim

    switches: dict[str, Any] = {"max_num_seqs": slots, "seconds_per_token": seconds_per_token, "answer_tokens": tokens}
    with (
        tempfile.TemporaryDirectory() as folder,
        fake_nim(Path(folder), FakeNimConfig(line="2.x", **switches), env={"NIM_SERVED_MODEL_NAME": "fake"}) as running,
    ):
        yield running.port


@contextlib.contextmanager
def llamacpp() -> Iterator[int]:
    """The embedded engine, started as the supervisor starts it."""
    import os
    import subprocess

    from fake_nim.run import free_port

    from nimdrum.engines.llamacpp import SERVER, embedded_model, slots

    port = free_port()
    line = [sys.executable, str(SERVER), "--model", str(embedded_model()), "--name", "smollm2", "--port", str(port)]
    line += ["--slots", str(slots(os.cpu_count() or 2)), "--context", "2048"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=7)
    parser.add_argument("--llamacpp", action="store_true")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--health", default="/health")
    parser.add_argument("--tokens", default="1,128")
    parser.add_argument("--pools", default="")
    parser.add_argument("--seconds", type=float, default=12.0, help="about how long one run takes")
    parser.add_argument("--rows", default="", help="rows of a run for each of --tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", default="")
    parser.add_argument("--slots", default="8,64,256", help="of the fake NIM")
    arguments = parser.parse_args()
    if arguments.one:
        kind, port, model, health, tokens, rows, warm = arguments.one
        common.say(one(kind, int(port), model, health, int(tokens), int(rows), int(warm)))
        return
    lines: list[list[object]] = []
    if arguments.port or arguments.llamacpp:
        pools = [int(pool) for pool in (arguments.pools or "4,8,16,32").split(",")]
        tokens = [int(count) for count in arguments.tokens.split(",")]
        rows = [int(count) for count in (arguments.rows or "200,40").split(",")]
        with llamacpp() if arguments.llamacpp else contextlib.nullcontext(arguments.port) as port:
            model = "smollm2" if arguments.llamacpp else arguments.model
            for count, many in zip(tokens, rows, strict=True):
                lines.append(compare(model, port, model, arguments.health, count, pools, many, arguments.repeats))
        name = arguments.name or ("window-llamacpp" if arguments.llamacpp else "window-engine")
        report(lines, [f"pool {pool}" for pool in pools], name, f"{model}: fixed pools and the window")
        return
    for slots in [int(number) for number in arguments.slots.split(",")]:
        for seconds_per_token, count in ((0.05, 1), (0.02, 32)):
            many = int(min(12_000, slots / (seconds_per_token * count) * arguments.seconds))
            pools = [slots, 2 * slots, 4 * slots]
            title = f"fake, {slots} slots"
            with fake(slots, seconds_per_token, count) as port:
                lines.append(compare(title, port, "fake", "/v1/health/ready", count, pools, many, arguments.repeats))
    names = ["pool of 1 x slots", "2 x slots", "4 x slots"]
    report(lines, names, "window-fake", "fake NIM: fixed pools and the window that finds itself")


if __name__ == "__main__":
    main()
