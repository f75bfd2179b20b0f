"""How soon the supervisor notices, and that it leaves a busy engine alone.

    python benchmarks/supervision.py [--repeat 20] [--soak-sec 600]

Prints a table: a failed start seen by a waiting process, ready seen after the first 200, a hung engine found after
stall_timeout_sec, and restarts during a soak with a saturated engine whose health route takes 40 s. Uses the fake NIM
of the tests, so the times are the supervisor's own and not a model's.
"""

import argparse
import contextlib
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "edge")]

import pandas as pd  # noqa: E402
from edge_world import World  # noqa: E402
from tqdm import tqdm  # noqa: E402

from nimdrum.base.errors import EngineStartError  # noqa: E402
from nimdrum.scoring.score import score_frame  # noqa: E402
from nimdrum.supervisor.state import Phase  # noqa: E402

STALL_SEC = 5
SLOW_HEALTH_SEC = 40


@contextlib.contextmanager
def new_world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), {"PATH": "/usr/bin:/bin"})
        try:
            yield world
        finally:
            for model in world.models:
                model.attachment.release()
            world.wait_until_empty()


def late_sec(happens: Callable[[], bool], see: Callable[[], object]) -> float:
    """From the moment in which `happens` says so, asked all the while in a thread, to the end of `see`."""
    moments: list[float] = []

    def watch() -> None:
        while not happens():
            time.sleep(0.001)
        moments.append(time.monotonic())

    thread = threading.Thread(target=watch)
    thread.start()
    see()
    seen = time.monotonic()
    thread.join()
    return seen - moments[0]


def failed_start_sec() -> float:
    """From the child's death to the error in the process that waits for it."""
    with new_world() as world:
        world.fake(die_before_ready=True, start_delay_sec=0.5, last_lines=("No space left on device",))
        model = world.model()
        while not (starts := world.starts()):
            time.sleep(0.001)
        stat = Path(f"/proc/{starts[0]['pid']}/stat")

        def until_failed() -> None:
            with contextlib.suppress(EngineStartError):
                model.ready(60)

        return late_sec(lambda: not stat.exists() or " Z " in stat.read_text(), until_failed)


def ready_sec() -> float:
    """From the first 200 of the health route to `ready` returning."""
    with new_world() as world:
        world.fake(line="2.x", start_delay_sec=1)
        model = world.model(DR_NIM_SERVER_PORT=19871)

        def is_ready() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", 19871, timeout=1)
            with contextlib.suppress(OSError), contextlib.closing(connection):
                connection.request("GET", "/v1/health/ready")
                return connection.getresponse().status == 200
            return False

        return late_sec(is_ready, lambda: model.ready(60))


def hung_sec() -> float:
    """From the moment an engine hangs to its restart being decided, less stall_timeout_sec."""
    with new_world() as world:
        world.fake(line="2.x", hang_prompts_containing="p", crash_once=True)
        model = world.ready_model(stall_timeout_sec=STALL_SEC, max_watchdog_backoff_sec=1)
        rows = pd.DataFrame({"promptText": ["prompt"]}, dtype=object)
        began = time.monotonic()
        threading.Thread(target=score_frame, args=(rows, model), daemon=True).start()
        while (state := model.attachment.state()) is None or state.phase is not Phase.BACKOFF:
            time.sleep(0.01)
        found = time.monotonic() - began - STALL_SEC
        model.ready(60)
        return found


def soak(seconds: float) -> str:
    """A saturated engine with a health route of 40 s: how often it was restarted, and what it answered."""
    with new_world() as world:
        world.fake(max_num_seqs=4, seconds_per_token=0.2, slow_health_sec=SLOW_HEALTH_SEC)
        model = world.ready_model(stall_timeout_sec=30, max_concurrency=64)
        rows = pd.DataFrame({"promptText": [f"prompt {i}" for i in range(200)]}, dtype=object)
        began, answered, failed = time.monotonic(), 0, 0
        with tqdm(total=round(seconds), unit="s", disable=None) as bar:
            while time.monotonic() - began < seconds:
                out = score_frame(rows, model)
                answered += int((out["row_error"] == "").sum())
                failed += int((out["row_error"] != "").sum())
                bar.n = min(round(seconds), round(time.monotonic() - began))
                bar.refresh()
        state = model.attachment.state()
        restarts = state.restarts if state else -1
        return f"{restarts} restarts, {len(world.starts())} start, {answered} rows answered, {failed} failed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20, help="measurements of each time")
    parser.add_argument("--soak-sec", type=float, default=600, help="length of the soak in seconds")
    arguments = parser.parse_args()
    rows = [("what", "limit s", "median s", "worst s")]
    for name, limit, measure, times in (
        ("failed start seen", 2.0, failed_start_sec, arguments.repeat),
        ("ready seen", 0.5, ready_sec, arguments.repeat),
        (f"hung engine found, after stall_timeout_sec of {STALL_SEC}", 15.0, hung_sec, max(1, arguments.repeat // 5)),
    ):
        seconds = [measure() for _ in tqdm(range(times), desc=name, disable=None)]
        rows.append((name, f"{limit:g}", f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"))
    for row in rows:
        print(f"{row[0]:<50} {row[1]:>8} {row[2]:>9} {row[3]:>8}")
    if arguments.soak_sec:
        print(f"soak of {arguments.soak_sec:g} s, health route {SLOW_HEALTH_SEC} s: {soak(arguments.soak_sec)}")


if __name__ == "__main__":
    main()
