"""Health is what the state file says: in every state, on every route, below any prefix."""

import socket
import threading

import pandas as pd
import pytest
from datarobot_drum.drum.exceptions import CustomHTTPError
from flask import Flask
from http_face import LIMIT_SEC, Face, face  # noqa: F401 - a fixture

from nimdrum import hooks
from nimdrum.supervisor.state import EngineState, Phase
from nimdrum.web.health import ROUTES, health

STATUS = {Phase.RUNNING: 200, Phase.FATAL: 513}  # all others, the missing one too: 503


@pytest.mark.parametrize("prefix", ["", "/deployment/7"])
@pytest.mark.parametrize("phase", [None, *Phase])
def test_every_state_on_every_route(face: Face, phase: Phase | None, prefix: str) -> None:  # noqa: F811
    """200 only while it runs, 513 only when it is given up, else 503 with a time to try again."""
    face.says(phase, model="served", cause="The disk is full.", last_lines=("loading",))
    client = face.client(prefix)
    for route in ROUTES:
        for method in ("GET", "HEAD"):
            answer = client.open(prefix + route or "/", method=method)
            assert answer.status_code == STATUS.get(phase, 503), (route, method)
            assert ("Retry-After" in answer.headers) == (answer.status_code == 503)
    assert client.get(f"{prefix}/info/").text == "drum"
    assert client.post(f"{prefix}/ping/").text == "drum"


def test_a_dead_supervisor_is_not_believed(face: Face) -> None:  # noqa: F811
    """A state file that says RUNNING is worth nothing when no supervisor holds its lock."""
    face.says(Phase.RUNNING, model="served")
    client = face.client()
    assert client.get("/health/").status_code == 200
    face.close()
    assert client.get("/health/").status_code == 503


def test_an_engine_that_was_given_up_is_513_on_every_route(face: Face) -> None:  # noqa: F811
    """Not 503 with a time to try again, which would be for ever; the cause, but none of the log."""
    face.says(Phase.FATAL, cause="The disk is full.", last_lines=("secret internals",))
    answer = face.client().get("/nim/v1/models")
    assert (answer.status_code, "Retry-After" in answer.headers) == (513, False)
    assert "The disk is full." in answer.text
    frame = pd.DataFrame({"promptText": ["a"]})
    for hook in (lambda: hooks.score(frame, face.model), lambda: hooks.chat({"messages": []}, face.model)):
        with pytest.raises(CustomHTTPError, match="The disk is full") as raised:
            hook()
        assert raised.value.status_code == 513
        assert "secret internals" not in str(raised.value)


def test_the_progress_is_told_and_no_stack() -> None:
    """While it loads: state, since when, restarts, cause, the last log line that is none of a stack."""
    lines = ("Loading weights: 40%", "Traceback (most recent call last):", '  File "x.py", line 1, in f')
    state = EngineState(
        Phase.STARTING, "nim", "NIM 2.x", 1, since=100.0, restarts=2, cause="It crashed.", last_lines=lines
    )
    body, status, _ = health(state, now=130.0)
    assert status == 503
    expected = "STARTING for 30 s; restart 2; after: It crashed.; last line: Loading weights: 40%"
    assert body == {"message": expected}


def test_a_given_up_engine_shows_its_cause_and_not_its_log() -> None:
    """The log lines of a dead engine may hold a stack; they are in the log."""
    lines = ("Traceback (most recent call last):", "RuntimeError: secret internals")
    body, _, _ = health(EngineState(Phase.FATAL, "nim", "NIM 2.x", 1, since=0.0, cause="No GPU.", last_lines=lines))
    assert body == {"message": "ERROR: NIM 2.x has failed. No GPU."}


def test_rows_of_a_caller_that_left_do_not_wait_for_the_engine(face: Face) -> None:  # noqa: F811
    """While it loads, callers give up and come again: each would hold one of the server's places for half an hour."""
    face.says(Phase.STARTING)
    raised: list[Exception] = []

    def ask(connection: socket.socket) -> None:
        with Flask("drum").test_request_context(environ_overrides={"gunicorn.socket": connection}):
            try:
                hooks.score(pd.DataFrame({"promptText": ["a"]}), face.model)
            except CustomHTTPError as error:
                raised.append(error)

    there, here = socket.socketpair()
    here.close()
    there.close()  # an ended connection, as `connection_ended` sees it
    asking = threading.Thread(target=ask, args=(here,), daemon=True)
    asking.start()
    asking.join(LIMIT_SEC)
    assert [str(error)[:23] for error in raised] == ["The engine is not ready"]
