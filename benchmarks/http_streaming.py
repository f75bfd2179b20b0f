"""What DRUM and the hooks add to a stream: time to the first token, and many streams at once.

    python benchmarks/http_streaming.py [--repeat 60] [--streams 32] [--tokens 200]

Prints two tables. First token: the same short prompt, to the engine and through `drum server` in turns, for the real
embedded engine and for the fake NIM of the tests. Streams: all at once under gevent over the fake NIM (50 ms between
tokens), each read to its end while /ping/ is asked every 20 ms; an idle /ping/ for comparison.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "edge")]

from drum_process import Drum, drum_server  # noqa: E402
from edge_world import World  # noqa: E402

from nimdrum.supervisor.state import read_state  # noqa: E402

TIMEOUT_SEC = 120.0
TOKEN_SEC = 0.05
PING_EVERY_SEC = 0.02
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": "datarobot-deployed-llm",
    "messages": [{"role": "user", "content": "Hi."}],
    "stream": True,
    "max_tokens": 4,
}


@contextlib.contextmanager
def server(worker_class: str, fake: bool, **switches: Any) -> Iterator[tuple[Drum, str]]:
    """A ready `drum server`, and where its engine answers."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), {"PATH": os.environ["PATH"], "HOME": folder})
        if fake:
            world.fake(**switches)
        with drum_server(world, worker_class=worker_class) as drum:
            drum.wait_health(200)
            state = read_state(next(world.state_root.glob("*/state.json")))
            assert state is not None
            yield drum, state.url
        world.wait_until_empty()


def stream(url: str, body: dict[str, Any]) -> list[float]:
    """Seconds from before the connection to each event with content."""
    where = urlsplit(url)
    times = []
    began = time.perf_counter()
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_SEC)
    try:
        connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        for line in response:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    times.append(time.perf_counter() - began)
    finally:
        connection.close()
    assert times, "a stream without a token"
    return times


def get(url: str, path: str) -> float:
    where = urlsplit(url)
    began = time.perf_counter()
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_SEC)
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    assert response.status == 200
    connection.close()
    return time.perf_counter() - began


def first_token(repeat: int) -> None:
    """The first table."""
    print("| engine | server | engine ms | through DRUM ms | added, median of pairs ms |\n|---|---|---|---|---|")
    for fake in (True, False):
        for worker_class in ("", "sync", "gevent"):
            with server(worker_class, fake) as (drum, engine):
                for _ in range(5):
                    stream(engine, ASK), stream(drum.url, ASK)
                pairs = [(stream(engine, ASK)[0], stream(drum.url, ASK)[0]) for _ in range(repeat)]
            direct, through = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
            added = statistics.median(there - here for here, there in pairs) * 1000
            name = "fake NIM" if fake else "llama.cpp, SmolLM2-135M"
            print(f"| {name} | {worker_class or 'werkzeug'} | {direct:.1f} | {through:.1f} | {added:.1f} |", flush=True)


def read(url: str, body: dict[str, Any], times: list[list[float]]) -> None:
    times.append(stream(url, body))


def many(streams: int, tokens: int) -> None:
    """The second table."""
    body = {**ASK, "max_tokens": tokens}
    print(
        "\n| streams | first token ms p50 / max | longest gap between tokens ms | whole s | /ping/ ms p50 / p99 / max |"
    )
    print("|---|---|---|---|---|")
    with server("gevent", True, seconds_per_token=TOKEN_SEC, answer_tokens=tokens) as (drum, _):
        stream(drum.url, ASK)
        for count in (0, streams):
            times: list[list[float]] = []
            readers = [threading.Thread(target=read, args=(drum.url, body, times)) for _ in range(count)]
            began = time.perf_counter()
            for reader in readers:
                reader.start()
            pings = []
            while any(reader.is_alive() for reader in readers) or (not readers and len(pings) < 200):
                pings.append(get(drum.url, "/ping/") * 1000)
                time.sleep(PING_EVERY_SEC)
            whole = time.perf_counter() - began
            pings.sort()
            shown = f"{statistics.median(pings):.1f} / {pings[int(len(pings) * 0.99)]:.1f} / {pings[-1]:.1f}"
            if not count:
                print(f"| 0 | - | - | - | {shown} |")
                continue
            assert len(times) == count, "a stream broke off"
            first = sorted(each[0] * 1000 for each in times)
            gap = max(b - a for each in times for a, b in itertools.pairwise(each)) * 1000
            print(f"| {count} | {statistics.median(first):.1f} / {first[-1]:.1f} | {gap:.0f} | {whole:.1f} | {shown} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=60, help="pairs for the first table")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each of the many streams")
    arguments = parser.parse_args()
    first_token(arguments.repeat)
    many(arguments.streams, arguments.tokens)


if __name__ == "__main__":
    main()
