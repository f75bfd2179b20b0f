"""These hooks against DRUM's own road to the same server: `drum score` both times, same rows, same server, one run.

    python benchmarks/drum_road.py              the fake NIM at 20 ms a token with 64 slots
    python benchmarks/drum_road.py --llamacpp   the embedded engine on this CPU
    python benchmarks/drum_road.py --port 8000 --model llama8b --health /health --tokens 1,128
                                                an engine that runs (vLLM on a GPU)

DRUM's own road is `drum score --gpu-predictor nim --sidecar`: the prompts of the CSV one after another. A rate is the
difference of two runs, a short and a long one, so that DRUM's own start (3 to 10 s) is in neither. The short run of
these hooks has 64 rows: with fewer the time of one row would be taken off the long one too, and the rate come out too
high.
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
import engines

TYPES = {bool: "boolean", int: "numeric", float: "numeric", str: "string"}
FEW, FEW_TOGETHER = 2, 64


def drum_score(own_road: bool, port: int, health: str, tokens: int, rows: int, **more: Any) -> float:
    """Seconds of one `drum score` command; it must have answered every row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "rows.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["promptText"], *[[text] for text in common.prompts(rows)]])
        given = {"DR_NIM_SERVER_PORT": port, "DR_NIM_SERVER_HOST": "127.0.0.1", "DR_NIM_HEALTH_ROUTE": health}
        parameters = {**given, "max_tokens": tokens, "temperature": 0.7, **more}
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MLOPS_")},
            "TARGET_NAME": "resultText",
            "GPU_COUNT": "1",
            "NIMDRUM_STATE_DIR": str(folder / "state"),
        }
        line = [*DRUM, "score", "--input", str(folder / "rows.csv"), "--output", str(folder / "out.csv")]
        line += ["--target-type", "textgeneration"]
        if own_road:
            (folder / "model").mkdir()
            line += ["--code-dir", str(folder / "model"), "--gpu-predictor", "nim", "--sidecar"]
            parameters["DR_NIM_SERVER_PORT"] = str(port)
        else:
            line += ["--code-dir", str(common.ROOT), "--language", "python"]
            parameters["engine"] = "external"
        for key, value in parameters.items():
            environ[f"MLOPS_RUNTIME_PARAM_{key}"] = json.dumps({"type": TYPES[type(value)], "payload": value})
        began = time.perf_counter()
        done = subprocess.run(line, env=environ, capture_output=True, text=True, cwd=folder, timeout=1200)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{line} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
        with (folder / "out.csv").open(newline="") as stream:
            answers = list(csv.DictReader(stream))
        assert len(answers) == rows, (len(answers), rows)
        blank = [a for a in answers if not a["Predictions"] and not a.get("row_error", "").startswith("empty_answer")]
        assert own_road or not blank, blank[:3]  # one random token may be no text
        return seconds


DRUM = [sys.executable, "-c", "from datarobot_drum.drum.entry_point import run_drum_server as r; r()"]


def rate(own_road: bool, port: int, health: str, tokens: int, rows: int, few: int, **more: Any) -> dict[str, float]:
    """Rows a second between a short and a long run."""
    start = drum_score(own_road, port, health, tokens, few, **more)
    whole = drum_score(own_road, port, health, tokens, rows, **more)
    return {"start": start, "whole": whole, "rows_per_sec": (rows - few) / (whole - start)}


def compare(
    title: str, port: int, health: str, tokens: int, slow_rows: int, fast_rows: int, repeats: int
) -> list[object]:
    """A line for the table: DRUM's own road, these hooks, and how many times faster they are."""
    slow, fast = [], []
    for own_road in (True, False):  # the first start reads every module from disk
        drum_score(own_road, port, health, tokens, FEW)
    for _ in range(repeats):
        slow.append(rate(True, port, health, tokens, slow_rows, FEW))
        fast.append(rate(False, port, health, tokens, fast_rows, min(FEW_TOGETHER, fast_rows // 4)))
    theirs, ours = common.medians(slow), common.medians(fast)
    times = ours["rows_per_sec"] / theirs["rows_per_sec"]
    print(json.dumps({"title": title, "tokens": tokens, "drum": slow, "ours": fast, "times": times}))
    return [
        title,
        tokens,
        slow_rows,
        theirs["rows_per_sec"],
        fast_rows,
        ours["rows_per_sec"],
        ours["whole"],
        f"{times:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llamacpp", action="store_true")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", default="engine")
    parser.add_argument("--health", default="/health")
    parser.add_argument("--tokens", default="1,128")
    parser.add_argument("--slow-rows", default="", help="rows for DRUM's own road, for each of --tokens")
    parser.add_argument("--fast-rows", default="", help="rows for these hooks, for each of --tokens")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    lines = []
    if arguments.port or arguments.llamacpp:
        default_slow, default_fast = ("100,8", "200,40") if arguments.llamacpp else ("200,20", "10000,4000")
        slow = [int(count) for count in (arguments.slow_rows or default_slow).split(",")]
        fast = [int(count) for count in (arguments.fast_rows or default_fast).split(",")]
        tokens = [int(count) for count in arguments.tokens.split(",")]
        with engines.llamacpp() if arguments.llamacpp else contextlib.nullcontext(arguments.port) as port:
            title = "llama.cpp" if arguments.llamacpp else arguments.model
            if arguments.llamacpp:
                common.wait_healthy(port, arguments.health)
            for count, few, many in zip(tokens, slow, fast, strict=True):
                lines.append(compare(title, port, arguments.health, count, few, many, arguments.repeats))
        name = "drum-road-llamacpp" if arguments.llamacpp else "drum-road-engine"
    else:
        name = "drum-road-fake"
        for count, few, many in ((32, 20, 1500), (128, 8, 500)):
            with engines.fake(engines.Case(64, 0.02, count)) as port:
                lines.append(compare("fake, 64 slots", port, "/v1/health/ready", count, few, many, arguments.repeats))
    columns = [
        "engine",
        "tokens",
        "rows",
        "DRUM's own, rows/s",
        "rows",
        "these hooks, rows/s",
        "whole command, s",
        "times",
    ]
    print(common.table(columns, lines))
    print(f"medians of {arguments.repeats}; {common.machine()}")

    def draw(axes: Any) -> None:
        places = range(len(lines))
        own, ours = [line[3] for line in lines], [line[5] for line in lines]
        slow = axes.bar([i - 0.2 for i in places], own, 0.4, label="DRUM's own road", color="0.6")
        fast = axes.bar([i + 0.2 for i in places], ours, 0.4, label="these hooks", color="tab:green")
        axes.bar_label(slow, [f"{rate:.3g}" for rate in own])
        axes.bar_label(fast, [f"{rate:.3g} ({line[7]} times)" for rate, line in zip(ours, lines, strict=True)])
        axes.set_ylabel("rows a second")
        axes.set_xticks(list(places), [f"{line[0]}\n{line[1]} tokens" for line in lines])
        axes.legend()

    common.plot(name, draw, "drum score: DRUM's own NIM road and these hooks, same server, same rows")


if __name__ == "__main__":
    main()
