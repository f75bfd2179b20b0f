"""Health under load: many callers, and callers that do not say what they want, with what the start script sets."""

import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import requests
from drum_process import Drum, drum
from edge_world import READY_SEC, World
from fake_nim.run import free_port, wait_for
from test_start_server import Entry, entry  # noqa: F401 - a fixture

from nimdrum.supervisor.state import read_state
from nimdrum.web.health import ROUTES

pytestmark = pytest.mark.drum

CHATS = 150
HALVES = 500
PATIENCE_SEC = 30.0
CHAT = b'{"messages": [{"role": "user", "content": "hang"}]}'


def test_health_answers_whatever_the_callers_do(world: World, entry: Entry) -> None:  # noqa: F811
    """150 chats that the engine works on and 500 callers with half a request line, all at once: the connections that
    DRUM has by default, 5, or the 100 that this project once set, were all taken. The slow callers lose theirs."""
    entry.run()
    world.environ |= {name: value for name, value in entry.drum_environment.items() if name.startswith(("ML", "NIMD"))}
    world.fake(line="2.x", hang_prompts_containing="hang", max_num_seqs=CHATS)
    address = f"127.0.0.1:{free_port()}"
    # DRUM would cut a connection after 2 s without its first byte, as a chat on a slow machine may be.
    first_byte = {"DRUM_GUNICORN_FIRST_BYTE_TIMEOUT": 60}
    with drum(world, "server", "--address", address, **first_byte) as server, ExitStack() as callers:
        server.url = f"http://{address}"
        server.wait_health(200)
        for _ in range(CHATS):
            chat = callers.enter_context(connected(server))
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CHAT)}\r\n"
            chat.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + CHAT)
        wait_for(lambda: running(world) == CHATS, READY_SEC)
        look(server)
        halves = [callers.enter_context(connected(server)) for _ in range(HALVES)]
        for half in halves:
            half.sendall(b"GET /pi")
        look(server)
        assert {half.recv(1) for half in halves} == {b""}  # after ten seconds
        assert running(world) == CHATS


def connected(server: Drum) -> socket.socket:
    where = urlsplit(server.url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=PATIENCE_SEC)


def look(server: Drum) -> None:
    """Every health route answers, and closes the connection, as DRUM's own settings would have it."""
    for route in ROUTES:
        answer = requests.get(server.url + route, timeout=PATIENCE_SEC)
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close"), route


def running(world: World) -> float:
    """How many requests the engine works on."""
    (path,) = world.state_root.glob("*/state.json")
    state = read_state(path)
    assert state is not None
    page = requests.get(f"{state.url}/v1/metrics", timeout=READY_SEC).text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("vllm:num_requests_running"))
