"""An S3 protocol server as a child process: moto, with a record of what it served, and faults to switch on.

Run as `python s3_server.py PORT FOLDER`. It appends one JSON line for each object read to FOLDER/reads.jsonl, and reads
FOLDER/faults.json anew for each request: {"bytes_per_sec": N (all answers together, one after another), "corrupt": key,
"truncate": key, "status": N, "kms": true, "cut": key (breaks off in the middle of the first answer)}.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

BUCKET = "weights"
CREDENTIAL = {
    "credentialType": "s3",
    "awsAccessKeyId": "made-up-access-key-id",
    "awsSecretAccessKey": "made-up-secret-access-key-that-must-never-be-printed",
    "awsSessionToken": None,
}
LIFE_SEC = 1200  # like the fake NIM: nothing of a test outlives this
PIECE = 64 * 1024
LONGEST_PAUSE_SEC = 0.05


@dataclass
class S3Server:
    """A running server, and a client for filling it."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path
    client: Any

    def uri(self, path: str = "llm/", bucket: str = BUCKET) -> str:
        return f"s3://{bucket}/{path}?region=us-east-1&endpoint={self.url}"

    def put(self, name: str, data: bytes, prefix: str = "llm/") -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{prefix}{name}", Body=data, ACL="public-read")

    def put_in_parts(self, name: str, data: bytes, part_bytes: int, prefix: str = "llm/") -> None:
        """A multipart upload, as `aws s3 cp` does for large files."""
        where = {"Bucket": BUCKET, "Key": f"{prefix}{name}"}
        upload = self.client.create_multipart_upload(**where)["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(data), part_bytes), 1):
            body = data[start : start + part_bytes]
            answer = self.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})

    def put_sums(self, files: dict[str, bytes], prefix: str = "llm/") -> None:
        lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
        self.put("SHA256SUMS", "".join(lines).encode(), prefix)

    def fault(self, **faults: Any) -> None:
        """Switch these faults on, and all others off."""
        temporary = self.folder / "faults.tmp"
        temporary.write_text(json.dumps(faults))
        temporary.rename(self.folder / "faults.json")

    def require_keys(self) -> None:
        """From now on refuse keys that the server did not make."""
        self._reset_auth("0")

    def ask_no_keys(self) -> None:
        self._reset_auth("1000000")

    def _reset_auth(self, count: str) -> None:
        headers = {"Content-Type": "text/plain"}
        requests.post(f"{self.url}/moto-api/reset-auth", count, headers=headers, timeout=30).raise_for_status()

    def reads(self) -> list[dict[str, Any]]:
        """One record for each GET of an object's bytes (key, first byte and end of what was asked
        for, bytes sent, key id of who asked) and each answer by a fault."""
        path = self.folder / "reads.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def forget_reads(self) -> None:
        (self.folder / "reads.jsonl").unlink(missing_ok=True)

    def sent(self) -> int:
        """Bytes of objects that were sent."""
        return sum(read["bytes"] for read in self.reads())


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start it on a free port with an empty bucket; killed at the end."""
    import boto3
    from fake_nim.run import free_port, wait_for

    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(port), str(folder)], stdout=log, stderr=log
    )

    def answers() -> bool:
        assert process.poll() is None, (folder / "server.log").read_text()
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{url}/moto-api/", timeout=5).ok
        return False

    try:
        wait_for(answers, 60)
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIAL["awsAccessKeyId"],
            aws_secret_access_key=CREDENTIAL["awsSecretAccessKey"],
        )
        client.create_bucket(Bucket=BUCKET)
        yield S3Server(process, url, folder, client)
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3(s3_process: S3Server) -> S3Server:
    """The server with an empty bucket, no faults and an empty record."""
    s3_process.fault()
    s3_process.ask_no_keys()
    for each in s3_process.client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3_process.client.delete_object(Bucket=BUCKET, Key=each["Key"])
    s3_process.forget_reads()
    return s3_process


class Faulty:
    """WSGI middleware: writes down what is read, and breaks what it is told to."""

    def __init__(self, app: Callable[..., Iterable[bytes]], folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._cut: set[tuple[str, int]] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/moto-api"):
            return self._app(environ, start_response)
        faults = self._faults()
        if status := faults.get("status"):
            self._write_down({"key": path, "status": status, "first": 0, "end": 0, "bytes": 0})
            start_response(f"{status} Fault", [("Content-Length", "0")])
            return []
        key = path.partition("/")[2].partition("/")[2]
        answer: dict[str, Any] = {}

        def remember(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            answer.update(status=status, headers=headers)
            return lambda data: None

        body = b"".join(self._app(environ, remember))
        is_object = environ["REQUEST_METHOD"] == "GET" and bool(key) and answer["status"].startswith("20")
        if is_object and faults.get("corrupt") == key and len(body) > 100:
            body = body[:99] + bytes([body[99] ^ 1]) + body[100:]
        headers = answer["headers"]
        if is_object and faults.get("truncate") == key:
            body = body[: len(body) // 2] if environ.get("HTTP_RANGE", "").startswith("bytes=0-") else b""
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        if faults.get("kms"):
            headers = [*headers, ("x-amz-server-side-encryption", "aws:kms")]
        start_response(answer["status"], headers)
        if not is_object:
            return [body]
        first = int(environ.get("HTTP_RANGE", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        who = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0]
        asked = {"key": key, "status": 200, "first": first, "end": first + len(body), "who": who}
        cut_at = len(body)
        if faults.get("cut") == key and (key, first) not in self._cut:
            self._cut.add((key, first))
            cut_at = len(body) // 2
        return self._send(asked, body, "bytes_per_sec" in faults, cut_at)

    def _send(self, asked: dict[str, Any], body: bytes, slow: bool, cut_at: int) -> Iterator[bytes]:
        sent, piece = 0, b""
        try:
            with self._turn if slow else contextlib.nullcontext():
                for start in range(0, len(body), PIECE):
                    piece = body[start : start + PIECE]
                    if start > cut_at:
                        raise ConnectionAbortedError("cut")
                    if slow:
                        self._take_time(len(piece))
                    if start + PIECE >= len(body):  # whoever has the last one finds it written down
                        sent = len(body)
                        break
                    yield piece
                    sent += len(piece)
        finally:
            self._write_down({**asked, "bytes": sent})
        yield piece

    def _take_time(self, count: int) -> None:
        """As long as so many bytes may take, or until the fault is switched off: the next test must not wait for it."""
        began = time.monotonic()
        while (rate := self._faults().get("bytes_per_sec")) and (left := began + count / rate - time.monotonic()) > 0:
            time.sleep(min(left, LONGEST_PAUSE_SEC))

    def _write_down(self, record: dict[str, Any]) -> None:
        with self._lock, (self._folder / "reads.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def _faults(self) -> dict[str, Any]:
        try:
            return json.loads((self._folder / "faults.json").read_text())
        except FileNotFoundError:
            return {}


def keep_objects_in_memory() -> None:
    """moto reads the whole object from its file for each range of it: a large one costs a minute."""
    from moto.s3.models import FakeKey

    read, write = FakeKey.value.fget, FakeKey.value.fset

    def value(key: FakeKey) -> bytes:
        if "kept_value" not in vars(key):
            key.kept_value = read(key)
        return key.kept_value

    def set_value(key: FakeKey, data: bytes) -> None:
        vars(key).pop("kept_value", None)
        write(key, data)

    FakeKey.value = property(value, set_value)


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, run_simple

    signal.alarm(LIFE_SEC)
    keep_objects_in_memory()
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    app = Faulty(DomainDispatcherApplication(create_backend_app), Path(sys.argv[2]))
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)


if __name__ == "__main__":
    main()
