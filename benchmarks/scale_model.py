"""A model, not a measurement: rows a second of `nimdrum ray-score` by GPUs, and what is in the way first.

    python benchmarks/scale_model.py

What one GPU answers is from docs/performance.md; what a block costs the driver, and how many requests it makes, is
from `python benchmarks/ray_nodes.py`; the limits of S3 are Amazon's, as its documentation has them. The rest is
division, and nothing here was run on more machines than one.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common

SHAPES = {"128 tokens": 168.0, "one token": 1310.0}
"""Rows a second of Llama-3.1-8B's shape on one H200."""
DRIVER_SEC = 0.015
"""CPU of the driver, whose loop is one thread, for a block: read, answered, written."""
STORE_WRITES, STORE_READS = 9.0, 6.0
"""Requests for a block: the checkpoint, first pending, then renamed, and the file of answers."""
WRITES_PER_SEC, READS_PER_SEC = 3500.0, 5500.0
"""S3 allows so many PUT, COPY, POST and DELETE, and GET and HEAD, a second for one prefix."""
CPU_SEC_A_ROW = 0.00027
ID_BYTES = 89
"""Of a row that is answered, in the driver's node and in each filter, when a run goes on."""
GPUS = (1, 8, 32, 128, 512, 2048)
BLOCKS = (50, 500, 5000)


@dataclass(frozen=True)
class Limits:
    """Rows a second that each of them lets through."""

    engines: float
    driver: float
    store: float

    @property
    def rows_per_sec(self) -> float:
        return min(self.engines, self.driver, self.store)

    @property
    def first(self) -> str:
        """What is in the way first."""
        return min(("engines", "driver", "store"), key=lambda name: float(getattr(self, name)))


def limits(gpus: int, rows_a_gpu: float, block_rows: int) -> Limits:
    blocks = min(WRITES_PER_SEC / STORE_WRITES, READS_PER_SEC / STORE_READS)
    return Limits(gpus * rows_a_gpu, block_rows / DRIVER_SEC, block_rows * blocks)


def most_gpus(rows_a_gpu: float, block_rows: int) -> float:
    """From how many on more GPUs bring nothing."""
    there = limits(1, rows_a_gpu, block_rows)
    return min(there.driver, there.store) / rows_a_gpu


def main() -> None:
    lines: list[list[object]] = []
    for shape, rate in SHAPES.items():
        for gpus in GPUS:
            found = [limits(gpus, rate, block) for block in BLOCKS]
            cells = [f"{one.rows_per_sec:,.0f} ({one.first})" for one in found]
            hours = 1e8 / found[1].rows_per_sec / 3600
            cores = found[1].rows_per_sec * CPU_SEC_A_ROW
            lines.append([shape, gpus, *cells, hours, cores])
    columns = ["answers", "GPUs", *(f"rows/s, blocks of {block:,}" for block in BLOCKS)]
    print(common.table([*columns, "hours for 10^8 rows (500)", "cores that score (500)"], lines))
    for shape, rate in SHAPES.items():
        print(f"{shape}: more GPUs bring nothing from", *(f"{most_gpus(rate, b):,.0f} on ({b:,})" for b in BLOCKS))
    store = min(WRITES_PER_SEC / STORE_WRITES, READS_PER_SEC / STORE_READS)
    print(f"blocks a second: the driver {1 / DRIVER_SEC:.0f}, the store {store:.0f}")
    print(f"ids of 10^8 rows: {1e8 * ID_BYTES / 2**30:.1f} GiB")

    def draw(axes: Any) -> None:
        for (shape, rate), style in zip(SHAPES.items(), ("-", "--"), strict=True):
            for block, colour in zip(BLOCKS, ("tab:red", "tab:green", "tab:blue"), strict=True):
                label = f"{shape}, blocks of {block:,}"
                rates = [limits(gpus, rate, block).rows_per_sec for gpus in range(1, GPUS[-1] + 1)]
                axes.plot(range(1, GPUS[-1] + 1), rates, style, color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="rows/s")
        axes.legend(fontsize=8)

    common.plot("scale-model", draw, "Model: rows a second of ray-score by GPUs and rows in a block")


if __name__ == "__main__":
    main()
