"""The stand-in over HTTP, on a loopback port of its own, with faults at chosen requests."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fake_datarobot import deployments, environments, models  # noqa: F401  # each adds its routes
from fake_datarobot.request import Request, Wrong, parse
from fake_datarobot.routing import Answer, answer
from fake_datarobot.state import State


@dataclass
class Fault:
    """From request number `at` on the connection is lost: that one is applied or not, all later ones are not."""

    at: int
    applied: bool


@dataclass
class FakeDataRobot:
    """A DataRobot with one user, whose token is `token`."""

    token: str
    state: State = field(default_factory=State)
    fault: Fault | None = None
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    """Answers to give in the place of the real ones, by method and path below /api/v2/."""
    seen: list[Request] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Requests that are not as the contract has them."""
    on_request: Callable[[Request], None] = lambda request: None
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v2"

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.seen if request.method != "GET"]

    def take(self, request: Request) -> Answer | None:
        """The answer; None when the connection is to be lost."""
        with self.lock:
            number = len(self.seen)
            self.seen.append(request)
            self.on_request(request)
            if self.fault is not None and number >= self.fault.at:
                if number == self.fault.at and self.fault.applied:
                    self.checked(request)
                return None
            return self.checked(request)

    def checked(self, request: Request) -> Answer:
        chat = request.path.endswith("/chat/completions")  # for OpenAI's client, which says it so
        if request.headers.get("authorization") != f"{'Bearer' if chat else 'Token'} {self.token}":
            return Answer({"message": "Invalid Authorization header"}, 401)
        if given := self.answers.get((request.method, request.path.removeprefix("/api/v2/"))):
            return given
        try:
            return answer(self.state, request)
        except Wrong as error:
            self.broken.append(f"{request.method} {request.path}: {error}")
            return Answer({"message": str(error)}, error.status)


@contextmanager
def running(fake: FakeDataRobot) -> Iterator[FakeDataRobot]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one piece: in two, each answer takes 40 ms (delayed acknowledgement)

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            taken = fake.take(parse(self.command, self.path, headers, body))
            if taken is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            raw = taken.body if isinstance(taken.body, bytes) else json.dumps(taken.body).encode()
            self.send_response(taken.status)
            self.send_header("Content-Type", "text/html" if isinstance(taken.body, bytes) else "application/json")
            self.send_header("Content-Length", str(len(raw)))
            if taken.location:
                self.send_header("Location", taken.location)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
