"""What the journal costs `nimdrum score`, and how much memory a large file takes.

    python benchmarks/journal.py [--rows 100000] [--repeats 3] [--engine zero|fake]
    python benchmarks/journal.py --million [--engine zero|fake]

The whole command against an engine with short answers: `zero`, which costs nothing to wait for (nginx), or the fake
NIM, which is a Python process on the same cores. With and without a journal in turns; the answers go to /dev/null in
both, by way of the same temporary file. With --million one run of 1,000,000 rows into a file, with its journal. Seconds
are the command's own, from the engine's readiness to the end; CPU and memory (the peak) are its process's, its start
included.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
from zero_server import zero_server

COLUMNS = ["journal", "rows", "s", "rows/s", "CPU us/row", "peak MB"]


@contextlib.contextmanager
def fake_server(folder: Path) -> Iterator[int]:
    from fake_nim.config import FakeNimConfig
    from fake_nim.run import fake_nim

    with fake_nim(folder, FakeNimConfig(line="2.x", answer_tokens=8)) as fake:
        yield fake.port


def one(port: int, rows: Path, output: str, journal: Path | None) -> dict[str, Any]:
    """The summary of one run, with rows a second and the peak of its memory in MB."""
    settings: dict[str, object] = {"engine": "external", "DR_NIM_SERVER_PORT": port, "max_tokens": 16}
    if journal is not None:
        settings["journal"] = journal
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "nimdrum", "score", str(rows), "-o", output, "--json", *given]
    environ = {**os.environ, "PYTHONPATH": str(common.ROOT), "NIMDRUM_STATE_DIR": str(rows.parent / "state")}
    with (rows.parent / "summary.json").open("w+") as told:
        process = subprocess.Popen(command, env=environ, cwd=rows.parent, stdout=told, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        summary: dict[str, Any] = json.load(told)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {summary}")
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "sec": summary["scoring_sec"],
        "rows_per_sec": summary["rows"] / summary["scoring_sec"],
        "cpu_us_per_row": 1e6 * cpu / summary["rows"],
        "peak_mb": usage.ru_maxrss / 1024,
    }


def write_rows(path: Path, rows: int) -> Path:
    with path.open("w") as file:
        file.write("id,promptText\n")
        file.writelines(f'{number},"{common.QUESTION.format(number)}"\n' for number in range(rows))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=("zero", "fake"), default="zero")
    parser.add_argument("--million", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nimdrum-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        engine = zero_server() if arguments.engine == "zero" else fake_server(folder / "fake")
        port = stack.enter_context(engine)
        if arguments.million:
            large = one(port, write_rows(folder / "million.csv", 1_000_000), str(folder / "answers.csv"), None)
            with (folder / "answers.csv").open() as file:
                assert sum(1 for _ in file) == 1_000_001
            print(common.table(COLUMNS, [["beside the answers", 1_000_000, *large.values()]]))
            print(f"engine: {arguments.engine}; one run; {common.machine()}")
            return
        rows = write_rows(folder / "rows.csv", arguments.rows)
        runs: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
        for _ in range(arguments.repeats):
            for kind, kept in runs.items():
                kept.append(one(port, rows, "/dev/null", folder / "kept.journal" if kind == "with" else None))
                print(kind, kept[-1], file=sys.stderr)
        lines = [[kind, arguments.rows, *common.medians(kept).values()][:-1] for kind, kept in runs.items()]
        print(common.table(COLUMNS, lines))
        print(f"engine: {arguments.engine}; median of {arguments.repeats}; {common.machine()}")


if __name__ == "__main__":
    main()
