"""What Ray Data adds: rows a second by nodes, and what a block costs the head and an object store.

    python benchmarks/ray_nodes.py [--nodes 1,2,4] [--slots 16] [--delay 0.5] [--blocks 150]

Needs `make ray`'s installation. Each node is a process on this machine with a fake engine of its own, whose speed is
fixed (slots / delay rows a second) and far below what the cores can do. The rate counts answers between a fifth and
four fifths of the run, as the engines counted them. The last table is of blocks of 4 rows: CPU seconds of the driver,
and of the head's GCS, and requests to an S3 server (moto), of a run with few blocks and of one with many: a block's
share is the difference.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common

sys.path.insert(0, str(common.ROOT / "tests/ray"))
import psutil
from fake_nim.run import Running, free_port
from pyarrow import Table, fs, parquet
from ray_world import RayWorld, engines, environment, ray_world, wait_for

SHARES = (0.2, 0.8)
SMALL_BLOCK = 4
WRITES = ("PUT", "POST", "DELETE")
STORE = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up-too", "AWS_DEFAULT_REGION": "us-east-1"}


def answered(running: list[Running]) -> int:
    return round(sum(engine.metric("request_success_total") for engine in running))


def rate_with(nodes: int, slots: int, delay_sec: float) -> dict[str, Any]:
    """One run on so many nodes, each with half a minute of rows."""
    rows = round(slots / delay_sec * 30) * nodes
    with tempfile.TemporaryDirectory() as name, ray_world(Path(name)) as world:
        folder, log = Path(name), Path(name) / "log"
        parquet.write_table(Table.from_pydict({"promptText": common.prompts(rows)}), folder / "rows.parquet")
        with engines(folder, nodes, max_num_seqs=slots, prefill_sec=delay_sec, record_requests=False) as running:
            for number, engine in enumerate(running):
                world.add_node_for(engine, f"node{number}")
            arguments = ("--set", "engine=external", "--min-actors", nodes, "--block-rows", 4 * slots)
            driver = world.start(folder / "rows.parquet", folder / "answers", *arguments, log=log)
            times = []
            for share in SHARES:
                wait_for(lambda share=share: answered(running) >= share * rows, f"{share:.0%} of {rows}", 600)
                times.append((time.monotonic(), answered(running)))
            assert driver.wait(300) == 0, log.read_text()[-2000:]
            (began, first), (ended, last) = times
            assert answered(running) == rows
            world.remove_nodes()
    return {"nodes": nodes, "rows": rows, "rows_per_sec": (last - first) / (ended - began), "errors": 0}


@contextlib.contextmanager
def store(folder: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """An S3 server, the variables by which Arrow finds it, and its log of requests."""
    port, log = free_port(), folder / "moto.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "moto.server", "-p", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment())
    variables = {**STORE, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    try:
        wait_for(lambda: b"Running on" in log.read_bytes(), "moto listens", 60)
        yield variables, log
    finally:
        process.terminate()
        process.wait(20)


def block_costs(blocks: int) -> dict[str, Any]:
    """One run of so many small blocks from and to the store: CPU seconds, and requests by their methods."""
    rows = blocks * SMALL_BLOCK
    with tempfile.TemporaryDirectory() as name, ray_world(Path(name)) as world, store(Path(name)) as (variables, log):
        os.environ.update(variables)  # for the driver; ray_world puts the old ones back
        bucket, _ = fs.FileSystem.from_uri("s3://bucket?allow_bucket_creation=true")  # it reads the variables
        bucket.create_dir("bucket")
        table = Table.from_pydict({"promptText": common.prompts(rows)})
        parquet.write_table(table, "bucket/rows/rows.parquet", filesystem=bucket)
        with engines(Path(name), 1, record_requests=False) as running:
            node = world.add_node_for(running[0], "node", **variables)
            before = log.stat().st_size
            arguments = ("--set", "engine=external", "--block-rows", SMALL_BLOCK)
            driver = psutil.Process(_start(world, arguments, Path(name) / "log"))
            head = {p.pid: p for p in psutil.Process().children(recursive=True) if _is_of_head(p, driver, node)}
            cpu_before = sum(_cpu(p) for p in head.values())
            driver_sec = 0.0
            while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
                driver_sec = _cpu(driver) or driver_sec
                time.sleep(0.1)
            assert answered(running) == rows, (Path(name) / "log").read_text()[-3000:]
            head_sec = sum(_cpu(p) for p in head.values()) - cpu_before
            lines = log.read_bytes()[before:].decode()
            world.remove_nodes()
    methods = Counter(re.findall(r'"(GET|HEAD|PUT|POST|DELETE) /bucket', lines))
    writes = sum(methods[method] for method in WRITES)
    return {
        "blocks": blocks,
        "driver_sec": driver_sec,
        "head_sec": head_sec,
        "writes": writes,
        "reads": methods["GET"] + methods["HEAD"],
        "errors": 0,
    }


def scorer_cost(rows: int) -> dict[str, Any]:
    """CPU of one process a row, from a pandas batch to a pandas batch, against a server that costs no time."""
    import pandas as pd
    from zero_server import zero_server

    from nimdrum.tools.ray_score.scorer import Scorer

    with zero_server() as port, tempfile.TemporaryDirectory() as name:
        os.environ["NIMDRUM_STATE_DIR"] = name
        made = [Scorer({"engine": "external", "DR_NIM_SERVER_HOST": "127.0.0.1", "DR_NIM_SERVER_PORT": port})]
        batches = [pd.DataFrame({"promptText": common.prompts(500)}) for _ in range(rows // 500)]
        made[0](batches[0])
        result = common.timed(lambda: sum(common.errors_in(made[0](batch)["row_error"]) for batch in batches), rows)
        made.clear()  # before its state folder goes
    return result


def _start(world: RayWorld, arguments: tuple[object, ...], log: Path) -> int:
    return world.start("s3://bucket/rows", "s3://bucket/answers", *arguments, log=log).pid


def _cpu(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _is_of_head(process: psutil.Process, driver: psutil.Process, node: Any) -> bool:
    with contextlib.suppress(psutil.Error):
        return "gcs_server" in process.name() and process.pid != driver.pid
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs="+")
    parser.add_argument("--nodes", default="1,2,4")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--delay", type=float, default=0.5)
    parser.add_argument("--blocks", type=int, default=150)
    given = parser.parse_args()
    if given.one:
        what, number = given.one[0], int(given.one[1])
        if what == "scorer":
            common.say(scorer_cost(number))
            return
        common.say(
            block_costs(number) if what == "blocks" else rate_with(number, int(given.one[2]), float(given.one[3]))
        )
        return
    counts = [int(count) for count in given.nodes.split(",")]
    rates = [common.child("ray_nodes.py", "nodes", count, given.slots, given.delay) for count in counts]
    ideal = given.slots / given.delay
    lines = [
        [
            r["nodes"],
            r["rows"],
            r["rows_per_sec"],
            r["rows_per_sec"] / rates[0]["rows_per_sec"],
            f"{r['rows_per_sec'] / (ideal * r['nodes']):.0%}",
        ]
        for r in rates
    ]
    print(common.table(["nodes", "rows", "rows/s", "times one node", "of the engines"], lines))
    scorer = common.child("ray_nodes.py", "scorer", 20_000)
    print(f"An actor's CPU a row: {scorer['cpu_ms_per_row']:.2f} ms, {scorer['errors']:g} errors")
    few, many = (common.child("ray_nodes.py", "blocks", count) for count in (given.blocks // 3, given.blocks))
    more = many["blocks"] - few["blocks"]
    shares = {key: (many[key] - few[key]) / more for key in ("driver_sec", "head_sec", "writes", "reads")}
    columns = ["of a block", "driver CPU ms", "GCS CPU ms", "writing requests", "reading requests"]
    line = ["its share", 1000 * shares["driver_sec"], 1000 * shares["head_sec"], shares["writes"], shares["reads"]]
    print(common.table(columns, [line]))
    print(f"one run each; {common.machine()}")


if __name__ == "__main__":
    main()
