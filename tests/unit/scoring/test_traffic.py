"""What the calls of a process share: somebody looks at the engine as long as there are calls, whatever a look meets."""

import socket

import gevent
from gevent.event import Event

from nimdrum.engines.window import Window
from nimdrum.engines.work import KNOWN
from nimdrum.scoring.answer import Completion
from nimdrum.scoring.row import Result
from nimdrum.scoring.rows import Call
from nimdrum.scoring.traffic import Gate, Traffic
from nimdrum.session.attach import Endpoint

DEADLINE_SEC = 30.0


class Stumbling(Window):
    """Fails at its first look."""

    looks = 0

    def look(self, running: float | None = None, waiting: float | None = None) -> bool:
        self.looks += 1
        if self.looks == 1:
            raise ValueError("a page that nobody thought of")
        return super().look(running, waiting)


def test_a_look_that_fails_is_not_the_last() -> None:
    """The row of a call waits until there was another one."""
    window, again = Stumbling(4), Event()

    def send(index: int) -> Result:
        with gevent.Timeout(DEADLINE_SEC):
            while window.looks < 2:
                gevent.sleep(0.01)
        again.set()
        return Completion(("x",), "stop", 1, 1)

    with socket.socket() as closed:  # nobody else may listen there meanwhile
        closed.bind(("127.0.0.1", 0))
        nobody = Endpoint("127.0.0.1", closed.getsockname()[1], "llama")
        traffic = Traffic(window, Gate(lambda timeout_sec, stopped: nobody), KNOWN)
        call = Call(1, send)
        traffic.begin(call, nobody)
        assert again.wait(DEADLINE_SEC)
        traffic.end(call)
    assert call.error is None
