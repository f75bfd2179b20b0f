"""Time and memory from 1,000 to 1,000,000 rows against a server that costs nothing to wait for.

    python benchmarks/memory.py [--rows 1000,10000,100000,1000000]

"Grew" is the peak of the process less what it had before the call, and "data" is the size of the input and output
frames: the difference is what the scoring itself needs. Each size runs in a process of its own.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
from zero_server import zero_server


def one(port: int, rows: int) -> dict[str, Any]:
    import resource

    import pandas as pd

    from nimdrum.scoring.score import score_frame

    model = common.external_model(port, max_tokens=64, temperature=0)
    try:
        score_frame(pd.DataFrame({"promptText": common.prompts(50)}, dtype=object), model)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        frame = pd.DataFrame({"promptText": common.prompts(rows)}, dtype=object)
        kept: list[Any] = []

        def work() -> int:
            kept.append(score_frame(frame, model))
            return common.errors_in(kept[0]["row_error"])

        result = common.timed(work, rows)
        result["grew_mb"] = result["peak_mb"] - before
        sizes = [frame.memory_usage(deep=True).sum(), kept[0].memory_usage(deep=True).sum()]
        result["data_mb"] = float(sum(sizes)) / 2**20
        return result
    finally:
        model.attachment.release(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, type=int)
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    arguments = parser.parse_args()
    if arguments.one:
        common.say(one(*arguments.one))
        return
    sizes = [int(rows) for rows in arguments.rows.split(",")]
    with zero_server() as port:
        results = [common.child("memory.py", port, rows, timeout_sec=3000) for rows in sizes]
    lines = [
        [
            f"{rows:,}",
            result["sec"],
            result["rows_per_sec"],
            result["cpu_ms_per_row"],
            result["data_mb"],
            result["grew_mb"],
            result["grew_mb"] - result["data_mb"],
            result["errors"],
        ]
        for rows, result in zip(sizes, results, strict=True)
    ]
    columns = ["rows", "s", "rows/s", "CPU ms/row", "data MB", "grew MB", "more than data MB", "errors"]
    print(common.table(columns, lines))
    print(f"one run each; {common.machine()}")

    def draw(axes: Any) -> None:
        axes.plot(sizes, [result["grew_mb"] for result in results], "o-", color="tab:green", label="grew")
        axes.plot(sizes, [result["data_mb"] for result in results], "o--", color="0.5", label="input and output frames")
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="MB")
        axes.legend()

    common.plot("memory", draw, "Memory of one call")


if __name__ == "__main__":
    main()
