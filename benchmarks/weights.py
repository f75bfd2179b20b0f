"""Fetching a tree of weights, against the transfer manager of `aws s3 cp` on the same server in the same run.

    python benchmarks/weights.py --s3rver "$(npm root -g)/s3rver/bin/s3rver.js"     # npm install -g s3rver
    python benchmarks/weights.py --files 32                                          # against moto

moto reads a whole object into memory for each range, so it needs a tree of many small files and measures itself; s3rver
streams. Both are one process on the same cores as what is measured. Prints a table: speed of both, memory, and what ten
kills at random points made the fetch ask for twice.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from common import ROOT, machine
from tqdm import tqdm

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "edge")]

from s3_server import BUCKET, CREDENTIAL, s3_server  # noqa: E402

from nimdrum.weights.child import STALL_TIMEOUT_SEC, child_environment, command, request_json  # noqa: E402

KEYS = {"s3rver": ("S3RVER", "S3RVER"), "moto": (CREDENTIAL["awsAccessKeyId"], CREDENTIAL["awsSecretAccessKey"])}
MIB = 1024 * 1024
COPY = """
import json, sys, boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
told = json.load(sys.stdin)
client = boto3.client("s3", **told["client"])
with create_transfer_manager(client, TransferConfig()) as manager:
    copies = [manager.download(told["bucket"], key, path) for key, path in told["files"]]
    for copy in copies:
        copy.result()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3rver", type=Path, help="s3rver's program; without it moto is the server")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the whole tree")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nimdrum-weights-"))
    try:
        with server(arguments.s3rver, folder) as (url, keys):
            measure(arguments, folder, url, keys)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(arguments: argparse.Namespace, folder: Path, url: str, keys: tuple[str, str]) -> None:
    total = fill(url, keys, arguments.files, int(arguments.gib * 1024 * MIB))
    speeds: dict[str, list[float]] = {"copy": [], "copy and sync": [], "fetch": []}
    peaks: dict[str, list[float]] = {"copy": [], "fetch": []}
    for i in tqdm(range(arguments.repeat), "copies and fetches", leave=False):
        for name in ("copy", "fetch") if i % 2 else ("fetch", "copy"):
            target = folder / name
            os.sync()
            began = time.monotonic()
            run = copy(url, keys, target, arguments.files) if name == "copy" else fetch(url, keys, target)
            peaks[name].append(peak_mb(run))
            assert run.returncode == 0, name
            speeds[name].append(total / 1e6 / (time.monotonic() - began))
            if name == "copy":
                os.sync()
                speeds["copy and sync"].append(total / 1e6 / (time.monotonic() - began))
            shutil.rmtree(target)
    plain, safe, ours = (statistics.median(speeds[name]) for name in ("copy", "copy and sync", "fetch"))
    print(f"{machine()}; {'s3rver' if arguments.s3rver else 'moto'}; {arguments.files} files, {total / 1e9:.2f} GB")
    print("| what | MB/s (median) | of the copy tool | peak memory |\n| --- | --- | --- | --- |")
    print(f"| copy tool (boto3's transfer manager) | {plain:.0f} | 100 % | {max(peaks['copy']):.0f} MB |")
    print(f"| copy tool, then sync | {safe:.0f} | {safe / plain:.0%} | |")
    print(f"| fetch: verified and synced | {ours:.0f} | {ours / plain:.0%} | {max(peaks['fetch']):.0f} MB |")
    served, lost = killed(url, keys, folder / "killed", arguments.kills, random.Random(arguments.seed))
    again = served - total
    print(
        f"\n{lost} kills: {again / 1e6:.0f} MB of {total / 1e6:.0f} MB fetched twice ({again / total:.1%}), tree whole"
    )


@contextlib.contextmanager
def server(s3rver: Path | None, folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    if s3rver is None:
        with s3_server(folder / "moto") as running:
            yield running.url, KEYS["moto"]
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-d", str(folder / "s3rver"), "-a", "127.0.0.1", "-p", str(port), "-s", "--configure-bucket", BUCKET]
    (folder / "s3rver").mkdir()
    process = subprocess.Popen(["node", str(s3rver), *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", KEYS["s3rver"]
    finally:
        process.kill()
        process.wait()


def client_options(url: str, keys: tuple[str, str]) -> dict[str, str]:
    names = {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]}
    return {"endpoint_url": url, "region_name": "us-east-1", **names}


def key(i: int) -> str:
    return f"llm/model-{i:05}.safetensors"


def fill(url: str, keys: tuple[str, str], files: int, total: int) -> int:
    """Upload the tree; its bytes."""
    import boto3

    client = boto3.client("s3", **client_options(url, keys))
    data = random.Random(1).randbytes(MIB) * (total // files // MIB)
    for i in tqdm(range(files), "upload", leave=False):
        client.put_object(Bucket=BUCKET, Key=key(i), Body=data)
    return files * len(data)


def copy(url: str, keys: tuple[str, str], target: Path, files: int) -> "subprocess.Popen[bytes]":
    target.mkdir()
    told = {
        "client": client_options(url, keys),
        "bucket": BUCKET,
        "files": [(key(i), str(target / str(i))) for i in range(files)],
    }
    process = subprocess.Popen([sys.executable, "-c", COPY], stdin=subprocess.PIPE)
    process.stdin.write(json.dumps(told).encode())  # type: ignore[union-attr]
    process.stdin.close()  # type: ignore[union-attr]
    return process


def fetch(url: str, keys: tuple[str, str], target: Path) -> "subprocess.Popen[bytes]":
    credential = {"credentialType": "s3", "awsAccessKeyId": keys[0], "awsSecretAccessKey": keys[1]}
    uri = f"s3://{BUCKET}/llm/?region=us-east-1&endpoint={url}"
    process = subprocess.Popen(
        command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=child_environment(os.environ)
    )
    process.stdin.write(request_json(uri, target, credential, STALL_TIMEOUT_SEC).encode())  # type: ignore[union-attr]
    process.stdin.close()  # type: ignore[union-attr]
    return process


def peak_mb(process: "subprocess.Popen[bytes]") -> float:
    """Wait for its end; the most memory that it had, looked at 20 times a second."""
    most = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            most = max(most, watched.memory_info().rss)
        time.sleep(0.05)
    return most / 1e6


def killed(url: str, keys: tuple[str, str], target: Path, kills: int, dice: random.Random) -> tuple[int, int]:
    """Bytes served to a fetch that is killed again and again, and how often it was."""
    counter = Counter(int(url.rpartition(":")[2]))
    done = 0
    for _ in tqdm(range(kills), "kills", leave=False):
        until = counter.bytes + dice.randrange(10, 200) * 1_000_000
        process = fetch(counter.url, keys, target)
        while counter.bytes < until and process.poll() is None:
            time.sleep(0.002)
        done += process.poll() is None
        process.kill()
        process.wait()
    last = fetch(counter.url, keys, target)
    assert last.wait() == 0
    digests = {hashlib.md5(path.read_bytes(), usedforsecurity=False).digest() for path in target.glob("*.safetensors")}
    assert len(digests) == 1, "the files are copies of one another"
    return counter.bytes, done


class Counter:
    """A TCP proxy that counts what the server sends."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.bytes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._port))
            for pair in ((near, far, 0), (far, near, 1)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, weight: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(256 * 1024):
                sink.sendall(data)
                with self._lock:
                    self.bytes += weight * len(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
