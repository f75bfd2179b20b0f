"""The batch client against a server of a few lines that does what real ones do to connections."""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event

from nimdrum.session.client import IDLE_SEC, EngineClient, TooSlow, Unreachable

DEADLINE_SEC = 30.0
REQUEST_ID = re.compile(rb"X-Request-Id: (\S+)\r\n")
Act = Callable[[socket.socket, bytes], None]


def made(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(content),
        content,
    )


def answer(connection: socket.socket, id: bytes) -> None:
    """With the id of its request, as vLLM answers."""
    connection.sendall(made(b'{"id":"chatcmpl-%b"}' % id))


def close(connection: socket.socket, id: bytes) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket, id: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half(connection: socket.socket, id: bytes) -> None:
    connection.sendall(made(id)[:-1])
    close(connection, id)


def silence(connection: socket.socket, id: bytes) -> None:
    """Keeps the client waiting until it hangs up."""
    connection.recv(1)


class Server:
    """Does the acts of `script` one after another, one for each request; counts connections and requests."""

    def __init__(self) -> None:
        self.script: list[Act] = []
        self.connections = 0
        self.requests: list[int] = []
        self.bodies: list[bytes] = []
        self.got_one = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(DEADLINE_SEC)
        buffer = b""
        while True:
            try:
                while b"\r\n\r\n" not in buffer:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    buffer += piece
                head, _, rest = buffer.partition(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
                while len(rest) < length:
                    rest += connection.recv(65536)
                buffer = rest[length:]
                self.requests.append(number)
                self.bodies.append(rest[:length])
                self.got_one.release()
                id = REQUEST_ID.search(head + b"\r\n")
                (self.script.pop(0) if self.script else answer)(connection, id[1] if id else b"")
            except OSError:
                return


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


class Clock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_connection_is_kept(server: Server) -> None:
    """Ten requests, one connection."""
    client = EngineClient("127.0.0.1", server.port, Clock())
    for number in range(10):
        assert b"chatcmpl-" in client.send(b"%d" % number, DEADLINE_SEC, "mine").body
    assert server.connections == 1
    assert server.bodies == [b"%d" % number for number in range(10)]


def test_an_idle_connection_is_not_used_again(server: Server) -> None:
    """The server will close it soon: it is closed here first."""
    clock = Clock()
    client = EngineClient("127.0.0.1", server.port, clock)
    client.send(b"1", DEADLINE_SEC)
    clock.now += IDLE_SEC + 0.1
    client.send(b"2", DEADLINE_SEC)
    assert server.requests == [1, 2]


@pytest.mark.parametrize("end", [close, reset])
def test_a_kept_connection_that_was_closed_is_no_failure(server: Server, end: Act) -> None:
    """The server closed it just as it was used, before any byte of an answer: sent once more, on a fresh one."""
    server.script = [answer, end, answer]
    client = EngineClient("127.0.0.1", server.port, Clock())
    assert client.send(b"1", DEADLINE_SEC).status == 200
    assert client.send(b"2", DEADLINE_SEC).status == 200
    assert server.requests == [1, 1, 2]


@pytest.mark.parametrize("end", [close, reset, half])
def test_a_fresh_connection_that_breaks_is_a_failure(server: Server, end: Act) -> None:
    """Not sent again here: retrying is the row's business."""
    server.script = [end]
    with pytest.raises(Unreachable):
        EngineClient("127.0.0.1", server.port, Clock()).send(b"1", DEADLINE_SEC)
    assert server.requests == [1]


def test_half_an_answer_is_not_asked_for_again(server: Server) -> None:
    """The engine has done the work, and may have done it for a row that is billed."""
    server.script = [answer, half]
    client = EngineClient("127.0.0.1", server.port, Clock())
    client.send(b"1", DEADLINE_SEC)
    with pytest.raises(Unreachable):
        client.send(b"2", DEADLINE_SEC)
    assert server.requests == [1, 1]


def test_both_ends_closed_is_a_failure(server: Server) -> None:
    """Once more, and not for ever."""
    server.script = [answer, close, close]
    client = EngineClient("127.0.0.1", server.port, Clock())
    client.send(b"1", DEADLINE_SEC)
    with pytest.raises(Unreachable):
        client.send(b"2", DEADLINE_SEC)


def test_the_time_is_limited(server: Server) -> None:
    """Also when the server only keeps the connection open; it is not used again."""
    server.script = [silence, answer]
    client = EngineClient("127.0.0.1", server.port, Clock())
    with pytest.raises(TooSlow):
        client.send(b"1", 1.0)
    assert client.send(b"2", DEADLINE_SEC).status == 200
    assert server.requests == [1, 2]


def test_a_trickle_does_not_stretch_the_time(server: Server) -> None:
    """Each byte comes in time, the whole does not."""
    over = threading.Event()

    def trickle(connection: socket.socket, id: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.02):
            connection.sendall(b"x")

    server.script = [trickle]
    try:
        with pytest.raises(TooSlow):
            EngineClient("127.0.0.1", server.port, Clock()).send(b"1", 0.5)
    finally:
        over.set()


def test_nobody_listens() -> None:
    """Refused at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable):
        EngineClient("127.0.0.1", port).send(b"1", DEADLINE_SEC)


def test_a_killed_greenlet_hangs_up(server: Server) -> None:
    """The call is over: nobody waits for the answer, and the engine sees the connection go."""
    gone = Event()

    def notice(connection: socket.socket, id: bytes) -> None:
        if not connection.recv(1):
            gone.set()

    server.script = [notice]
    row = gevent.spawn(EngineClient("127.0.0.1", server.port, Clock()).send, b"1", DEADLINE_SEC)
    with gevent.Timeout(DEADLINE_SEC):
        while not server.requests:
            gevent.sleep(0.01)
    row.kill(timeout=DEADLINE_SEC)
    assert gone.wait(DEADLINE_SEC)


def test_an_engine_that_names_no_ids_gets_a_connection_for_each_request(server: Server) -> None:
    """Nothing would tell whose answer it is that comes on a used one."""
    server.script = [lambda connection, id: connection.sendall(made(b"{}"))] * 3
    client = EngineClient("127.0.0.1", server.port, Clock())
    for _ in range(3):
        assert client.send(b"1", DEADLINE_SEC).body == b"{}"
    assert server.requests == [1, 2, 3]


def test_an_answer_to_another_request_is_not_taken(server: Server) -> None:
    """A second answer to the first request, which comes while the second request is in flight: that one is asked again."""

    def late(connection: socket.socket, id: bytes) -> None:
        connection.sendall(made(b'{"id":"chatcmpl-of-another","choices":[]}'))

    server.script = [answer, late, answer]
    client = EngineClient("127.0.0.1", server.port, Clock())
    client.send(b"1", DEADLINE_SEC)
    assert b"of-another" not in client.send(b"2", DEADLINE_SEC).body
    assert server.requests == [1, 1, 2]


def test_an_error_is_taken_as_it_is(server: Server) -> None:
    """Errors name no ids. The connection is not used again after one."""
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"
    server.script = [answer, lambda connection, id: connection.sendall(refusal), answer]
    client = EngineClient("127.0.0.1", server.port, Clock())
    assert [client.send(b"1", DEADLINE_SEC).status for _ in range(3)] == [200, 400, 200]
    assert server.requests == [1, 1, 2]


def test_proxies_do_not_matter(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is on loopback; a proxy of the environment would swallow every prompt."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert EngineClient("127.0.0.1", server.port, Clock()).send(b"1", DEADLINE_SEC).status == 200


def test_a_thousand_at_once(server: Server) -> None:
    """Each request has a connection to itself, and none fails; afterwards idle ones can be closed."""
    client, errors = EngineClient("127.0.0.1", server.port, Clock()), []
    rows = iter(range(1000))

    def work() -> None:
        while next(rows, None) is not None:
            try:
                client.send(b"1", DEADLINE_SEC)
            except Exception as error:
                errors.append(error)

    for worker in [gevent.spawn(work) for _ in range(100)]:
        worker.get(timeout=DEADLINE_SEC)  # joinall's timeout would count from when the loop last ran: some tests ago
    assert errors == []
    assert len(server.requests) == 1000
    assert server.connections <= 100
    client.close_idle()
