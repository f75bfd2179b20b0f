"""A Flask app with this project's routes over a pretended supervisor and, where a test wants one, a tiny engine."""

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines import external
from nimdrum.engines.choose import plan_engine
from nimdrum.session.attach import Attachment
from nimdrum.session.model import Model
from nimdrum.supervisor.rundir import create_run_dir
from nimdrum.supervisor.state import EngineState, Phase, write_state
from nimdrum.system.locks import try_lock
from nimdrum.web.install import install

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SEC = 20.0


class Engine:
    """A server on loopback that answers with what the test put into `reply`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.reply: Callable[[BaseHTTPRequestHandler], None] = lambda handler: answer(handler, b"{}")
        self.left = threading.Event()
        """Set when a client went away before its answer was whole."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append(
                    {"method": self.command, "path": self.path, "headers": self.headers.items(), "body": body}
                )
                try:
                    outer.reply(self)
                except OSError:
                    outer.left.set()

            do_GET = do_POST = do_PUT = do_HEAD = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer(
    handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> None:
    """Answer whole."""
    handler.send_response(status)
    for name, value in (("Content-Type", "application/json"), *headers):
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def stream(handler: BaseHTTPRequestHandler, *events: bytes, end: bool = True) -> None:
    """Answer with events, chunked; `end=False` resets the connection after them."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for data in events:
        text = b"data: " + data + b"\n\n"
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
    if end:
        handler.wfile.write(b"0\r\n\r\n")
    else:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True


def stream_for_ever(handler: BaseHTTPRequestHandler) -> None:
    """A stream that ends only when the client is gone, or with the test."""
    stream(handler, chunk("first"), end=False)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    deadline = time.monotonic() + LIMIT_SEC
    while time.monotonic() < deadline:
        text = b"data: " + chunk("more") + b"\n\n"
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
        time.sleep(0.01)


def chunk(content: str, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    body = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}
    return json.dumps(body).encode()


class Face:
    """The model as `load_model` returns it, a Flask app with our routes, and a hand on the state file."""

    def __init__(self, folder: Path, **parameters: Any) -> None:
        settings = load_settings(ROOT, {"engine": external.KIND.name, **parameters}.get)
        self.run_dir = create_run_dir(folder / "state", "code-00000000-ffffffffffff")
        self._lock = try_lock(self.run_dir.supervisor_lock)
        hosting = Hosting(
            code_dir=ROOT,
            server=True,
            gunicorn_master=None,
            error_server=False,
            target_column="resultText",
            request_timeout_sec=None,
            drum_port=None,
            image_root=folder,
            state_root=folder / "state",
            environ={"URL_PREFIX": ""},
        )
        self.attachment = Attachment(plan_engine(settings, hosting, (external.KIND,)), self.run_dir, None)
        self.model = Model(settings, hosting, self.attachment)

    def client(self, prefix: str = "", more: Callable[[Flask], None] = lambda app: None) -> FlaskClient:
        """A client of a new app. DRUM's own handlers are played by `more`, and one that says "drum" to all else."""
        environ = {"URL_PREFIX": prefix}
        self.model.hosting = Hosting(**{**vars(self.model.hosting), "environ": environ})
        app = Flask("drum")
        install(app, self.model)
        more(app)

        @app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PUT"])
        @app.route("/<path:path>", methods=["GET", "POST", "PUT"])
        def drum(path: str) -> str:
            return "drum"

        return app.test_client()

    def says(self, phase: Phase | None, **fields: Any) -> None:
        """What the supervisor says; None takes its file away."""
        self.run_dir.state.unlink(missing_ok=True)
        if phase is not None:
            facts = {"engine": "nim", "line": "NIM 2.x", "supervisor_pid": os.getpid(), "since": time.time(), **fields}
            write_state(self.run_dir.state, EngineState(phase=phase, **facts))

    def runs(self, engine: Engine) -> None:
        self.says(Phase.RUNNING, host="127.0.0.1", port=engine.port, model="served", engine_pid=1)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Face]:
    """Routes over a supervisor that says nothing yet."""
    made = Face(tmp_path)
    yield made
    made.close()


@pytest.fixture
def engine(face: Face) -> Iterator[Engine]:
    """A running engine behind `face`."""
    with contextlib.closing(Engine()) as running:
        face.runs(running)
        yield running
