"""An engine elsewhere for tests: https, a key, a prefix, a queue, a rate limit, 202, and bad days. A process of its own.

Run by path with its switches as JSON; `elsewhere` starts it from a test. What it was asked is counted, and told on
`/record`, which needs neither prefix nor key.
"""

import asyncio
import contextlib
import dataclasses
import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from aiohttp import web

if __name__ != "__main__":
    from fake_nim.run import free_port, wait_for

LIFE_SEC = 1200.0
CHAT = "/v1/chat/completions"


@dataclasses.dataclass(frozen=True)
class Switches:
    """What it does. Durations are seconds."""

    port: int = 0
    chain: str = ""  # a PEM file with certificate and key: then it speaks TLS
    key: str = ""  # the bearer token that it wants
    header: str = ""  # "Name: value" that it wants
    prefix: str = ""
    model: str = "llama"
    health: bool = True  # whether there is such a route
    models: bool = True
    open_models: bool = False  # lists its models to everybody
    metrics: bool = True
    slots: int = 32
    seconds: float = 0.05  # for one answer
    delayed: bool = False  # 202, and a status page to poll
    per_minute: int = 0  # requests in a sliding minute; more are 429
    minute_sec: float = 60.0
    retry_after: bool = True
    closed_for: int = 0  # every chat is 429 with this Retry-After
    repeats_key: bool = False  # an error repeats the key that was sent
    bad_every_sec: float = 0.0  # so often it answers 503 for bad_sec; its health stays well
    bad_sec: float = 0.0
    dies_streaming: bool = False  # after one event of a stream


class Elsewhere:
    def __init__(self, switches: Switches) -> None:
        self.switches = switches
        self.slots = asyncio.Semaphore(switches.slots)
        self.running = self.waiting = self.tokens = 0
        self.counts: Counter[str] = Counter()
        self.taken: deque[float] = deque()
        self.promised: dict[str, tuple[float, web.Response]] = {}
        self.began = time.monotonic()
        self.heads: list[dict[str, str]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/record":
            return web.json_response({**self.counts, "heads": self.heads[-50:]})
        if not path.startswith(self.switches.prefix):
            return self.answer(404, "not found")
        path = path.removeprefix(self.switches.prefix)
        if path == "/v1/models" and self.switches.models and self.switches.open_models:
            return self.models()
        if (refused := self.refuse(request)) is not None:
            self.counts["refused key"] += 1
            return refused
        if path == CHAT and request.method == "POST":
            return await self.chat(request)
        self.counts["probes"] += 1
        if path == "/v1/health/ready" and self.switches.health:
            return web.json_response({"message": "Service is ready."})
        if path == "/v1/models" and self.switches.models:
            return self.models()
        if path == "/metrics" and self.switches.metrics:
            return web.Response(text=self.metrics())
        if path.startswith("/v1/status/") and (promise := self.promised.get(path.rpartition("/")[2])):
            self.counts["polls"] += 1
            return promise[1] if time.monotonic() >= promise[0] else self.later(path.rpartition("/")[2])
        if path == "/v1/version":
            return web.json_response({"release": "elsewhere"})
        return self.answer(404, "not found")

    def refuse(self, request: web.BaseRequest) -> web.Response | None:
        wanted, given = self.switches.key, request.headers.get("Authorization", "")
        if wanted and given != f"Bearer {wanted}":
            return self.answer(401, f"wrong key: {given}" if self.switches.repeats_key else "wrong key")
        name, _, value = self.switches.header.partition(": ")
        if name and request.headers.get(name) != value:
            return self.answer(403, "wrong header")
        return None

    async def chat(self, request: web.BaseRequest) -> web.StreamResponse:
        self.counts["chats"] += 1
        self.heads.append({name.lower(): value for name, value in request.headers.items()})
        body = json.loads(await request.content.read())
        if body["model"] != self.switches.model:
            return self.answer(404, f"the model {body['model']} does not exist")
        now = time.monotonic()
        if self.switches.bad_every_sec and (now - self.began) % self.switches.bad_every_sec < self.switches.bad_sec:
            self.counts["bad"] += 1
            return self.answer(503, "a bad moment")
        if self.switches.closed_for:
            return self.answer(429, "the quota is used up", {"Retry-After": str(self.switches.closed_for)})
        if self.switches.per_minute and (wait := self.too_early(now)) is not None:
            self.counts["too many"] += 1
            headers = {"Retry-After": str(int(wait) + 1)} if self.switches.retry_after else {}
            return self.answer(429, "too many requests", headers)
        self.waiting += 1
        try:
            await self.slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            return await self.work(request, body)
        except asyncio.CancelledError:
            self.counts["cancelled"] += 1
            raise
        finally:
            self.running -= 1
            self.slots.release()

    async def work(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        text = f"echo: {body['messages'][-1]['content']}"
        name = f"chatcmpl-{request.headers.get('X-Request-Id', 'x')}"
        head = {"id": name, "model": self.switches.model, "created": 1}
        if body.get("stream"):
            return await self.stream(request, head, text)
        if self.switches.delayed:
            promised = name.replace("chatcmpl-", "")
            self.promised[promised] = (time.monotonic() + self.switches.seconds, self.completion(head, text))
            return self.later(promised)
        await asyncio.sleep(self.switches.seconds)
        return self.completion(head, text)

    def completion(self, head: dict[str, Any], text: str) -> web.Response:
        self.counts["answered"] += 1
        self.tokens += 8
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 8, "total_tokens": 9}
        return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def later(self, promised: str) -> web.Response:
        return web.Response(status=202, headers={"NVCF-REQID": promised, "NVCF-STATUS": "pending-evaluation"})

    async def stream(self, request: web.BaseRequest, head: dict[str, Any], text: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in text.split(" "):
            choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
            event = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            await asyncio.sleep(self.switches.seconds)
            if self.switches.dies_streaming and request.transport is not None:
                request.transport.abort()
                return response
        self.counts["streamed"] += 1
        await response.write(b"data: [DONE]\n\n")
        return response

    def too_early(self, now: float) -> float | None:
        while self.taken and self.taken[0] <= now - self.switches.minute_sec:
            self.taken.popleft()
        if len(self.taken) >= self.switches.per_minute:
            return self.taken[0] + self.switches.minute_sec - now
        self.taken.append(now)
        return None

    def models(self) -> web.Response:
        entry = {"id": self.switches.model, "object": "model", "max_model_len": 4096}
        return web.json_response({"object": "list", "data": [entry]})

    def metrics(self) -> str:
        return (
            f'vllm:num_requests_running{{model_name="x"}} {self.running}\n'
            f'vllm:num_requests_waiting{{model_name="x"}} {self.waiting}\n'
            f'vllm:generation_tokens_total{{model_name="x"}} {self.tokens}\n'
        )

    def answer(self, status: int, words: str, headers: dict[str, str] | None = None) -> web.Response:
        return web.json_response({"error": {"message": words, "code": status}}, status=status, headers=headers)


async def serve(switches: Switches) -> None:
    context = None
    if switches.chain:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(switches.chain)
    server = web.Server(Elsewhere(switches).handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", switches.port, ssl_context=context, backlog=2048).start()
    await asyncio.sleep(LIFE_SEC)


@dataclasses.dataclass(eq=False)
class Started:
    """A running one, from a test."""

    switches: Switches
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http{'s' if self.switches.chain else ''}://localhost:{self.switches.port}{self.switches.prefix}"

    def record(self) -> dict[str, Any]:
        context = ssl._create_unverified_context() if self.switches.chain else None  # noqa: S323 - loopback
        url = f"{self.url.removesuffix(self.switches.prefix)}/record"
        with urllib.request.urlopen(url, context=context, timeout=20) as answer:  # noqa: S310 - loopback
            document: dict[str, Any] = json.load(answer)
            return document

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait(self) -> None:
        """Until it answers."""
        wait_for(lambda: _answers(self))

    def start_again(self) -> None:
        self.process = _start(self.switches)


def _start(switches: Switches) -> "subprocess.Popen[bytes]":
    text = json.dumps(dataclasses.asdict(switches))
    # The switches hold a key, which a test looks for in every command line: they go by standard input.
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    return process


@contextlib.contextmanager
def elsewhere(wait: bool = True, **switches: Any) -> Iterator[Started]:
    """One on a free port, gone at the end."""
    given = Switches(**{"port": free_port(), **switches})
    started = Started(given, _start(given))
    try:
        if wait:
            started.wait()
        yield started
    finally:
        if started.process.poll() is None:
            started.kill()


def _answers(started: Started) -> bool:
    with contextlib.suppress(OSError):
        return bool(started.record() is not None)
    return False


if __name__ == "__main__":
    asyncio.run(serve(Switches(**json.load(sys.stdin))))
