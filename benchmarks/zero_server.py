"""Servers with a canned completion on loopback: one that costs nothing to wait for, and one that takes its time.

The first is nginx on a private configuration (Debian's: `apt-get install nginx-light`); nothing outside a temporary
folder is touched. The second is one asyncio process. Both name a request's X-Request-Id in its answer, as vLLM does.
"""

import asyncio
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import wait_healthy

ANSWER = {
    "id": "chatcmpl-REQUEST",
    "object": "chat.completion",
    "created": 1,
    "model": "canned",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A canned answer of a few words, as long as a sentence is."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 14, "total_tokens": 34},
}
CONFIG = """
worker_processes 1; daemon off; master_process off; pid FOLDER/pid; error_log FOLDER/error.log;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; default_type application/json;
  client_body_buffer_size 64k; client_max_body_size 64m; client_body_temp_path FOLDER/b; proxy_temp_path FOLDER/p;
  fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
  server {
    listen 127.0.0.1:PORT backlog=4096;
    location /v1/chat/completions { return 200 'ANSWER'; }
    location /v1/models { return 200 '{"object":"list","data":[{"id":"canned","object":"model"}]}'; }
    location /v1/health/ready { return 200 '{}'; }
    location / { return 404; }
  }
}
"""


@contextlib.contextmanager
def zero_server() -> Iterator[int]:
    """Its port."""
    from fake_nim.run import free_port

    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        raise SystemExit("nginx is not installed: apt-get install nginx-light")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        text = CONFIG.replace("FOLDER", folder).replace("PORT", str(port))
        text = text.replace("ANSWER", json.dumps(ANSWER).replace("REQUEST", "$http_x_request_id"))
        (Path(folder) / "nginx.conf").write_text(text)
        process = subprocess.Popen([nginx, "-c", f"{folder}/nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
        with _until_the_end(process, port):
            yield port


@contextlib.contextmanager
def _until_the_end(process: "subprocess.Popen[bytes]", port: int) -> Iterator[None]:
    """From when the server answers; it is ended behind."""
    try:
        wait_healthy(port, "/v1/health/ready")
        yield
    finally:
        process.terminate()
        process.wait(20)


class Slow(asyncio.Protocol):
    """One connection to the slow server: each POST is answered after a while, everything else at once."""

    def __init__(self, least_sec: float, most_sec: float) -> None:
        self._delay = least_sec, most_sec
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            _, named, rest = head.partition(b"content-length:")
            size = end + 4 + (int(rest.split(b"\r\n", 1)[0]) if named else 0)
            if len(self._buffer) < size:
                return
            del self._buffer[:size]
            if head.startswith(b"post"):
                _, named, rest = head.partition(b"x-request-id: ")
                name = rest.split(b"\r\n", 1)[0] if named else b""
                asyncio.get_running_loop().call_later(random.uniform(*self._delay), self._write, _completion(name))
            elif head.startswith((b"get /v1/models ", b"get /v1/health/ready ")):
                self._write(MODELS)
            else:
                self._write(NOT_FOUND)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def _reply(status: str, data: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _completion(name: bytes) -> bytes:
    return _reply("200 OK", COMPLETION.replace(b"REQUEST", name))


COMPLETION = json.dumps(ANSWER).encode()
MODELS = _reply("200 OK", b'{"object": "list", "data": [{"id": "canned", "object": "model"}]}')
NOT_FOUND = _reply("404 Not Found", b"{}")


async def _serve(port: int, least_sec: float, most_sec: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Slow(least_sec, most_sec), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


@contextlib.contextmanager
def slow_server(least_sec: float, most_sec: float) -> Iterator[int]:
    """The port of a server that answers after `least_sec` to `most_sec`, as many at once as there are."""
    from fake_nim.run import free_port

    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, str(port), str(least_sec), str(most_sec)])
    with _until_the_end(process, port):
        yield port


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
