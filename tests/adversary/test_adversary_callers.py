"""Twelve callers at once, ten thousand rows, and an engine that sends what nobody asked for: no answer crosses."""

import socket
import threading
from pathlib import Path

import pytest
from adversary_cases import BEHIND, INTERIM
from http_face import Face
from rude_engine import DEADLINE_SEC, Act, Asked, RudeEngine, completion, good, http
from test_adversary_rows import Place

CALLERS = 12
ROWS = 840
MARKED_EVERY = 7


def in_the_next_ones_time(connection: socket.socket, asked: Asked) -> None:
    """Answers, waits until the next request is on this connection, and then sends a second answer first."""
    good(connection, asked)
    if connection.recv(1, socket.MSG_PEEK):
        connection.sendall(http(completion("of nobody")))


ACTS: dict[str, Act] = {
    "early hints": INTERIM["103"],
    "second answer": BEHIND["second answer"],
    "late": in_the_next_ones_time,
    "long body": lambda connection, asked: connection.sendall(http(completion(asked.echo)) + b'{"and": "more"}'),
}


@pytest.mark.parametrize("mark", ACTS)
def test_no_answer_crosses_between_callers(tmp_path: Path, mark: str) -> None:
    """Each row has its own answer or an error; the rows beside those that the engine spoils have their answers."""
    engine = RudeEngine(ACTS)
    face = Face(tmp_path, max_concurrency=64)
    face.runs(engine)
    place, answers = Place(face, engine), {}
    asked = {
        caller: [f"{f'<{mark}> ' if row % MARKED_EVERY == 0 else ''}caller {caller} row {row}" for row in range(ROWS)]
        for caller in range(CALLERS)
    }

    def call(caller: int) -> None:
        answers[caller] = place.score(asked[caller])

    callers = [threading.Thread(target=call, args=(caller,), daemon=True) for caller in asked]
    try:
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join(4 * DEADLINE_SEC)
        for caller, prompts in asked.items():
            texts, errors = answers[caller]["resultText"].tolist(), answers[caller]["row_error"].tolist()
            for prompt, text, error in zip(prompts, texts, errors, strict=True):
                assert text == f"echo: {prompt}" or (prompt.startswith("<") and not text and error), (
                    prompt,
                    text,
                    error,
                )
    finally:
        face.close()
        engine.close()
