"""What the engine may answer, in this process: rows through `score_frame`, chats through the chat hook."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from adversary_cases import CASES, EITHER, STREAM_ERRORS, Case, says
from http_face import Face
from rude_engine import RudeEngine, events, http
from three_checks import Held, check_held, check_rows, held_here, with_connections

from nimdrum.base.errors import ChatError
from nimdrum.scoring.score import score_frame
from nimdrum.web import chat
from nimdrum.web.stream import error_of

ROWS_AT_ONCE = 4
MOST_CONNECTIONS = ROWS_AT_ONCE + 1
"""One for each row in flight, and one for the page that tells what the engine does."""


class Place:
    """A rude engine with a model attached to it, as DRUM's process has one."""

    def __init__(self, face: Face, engine: RudeEngine) -> None:
        self.face = face
        self.engine = engine
        self.before: Held | None = None

    def score(self, prompts: list[str]) -> pd.DataFrame:
        return score_frame(pd.DataFrame({"promptText": prompts}), self.face.model)

    def stream(self, prompt: str) -> list[Any]:
        ask = {"messages": [{"role": "user", "content": prompt}], "stream": True}
        return list(chat.complete(ask, self.face.model))

    def chat(self, prompt: str, **fields: Any) -> tuple[int, str]:
        """Status, and the answer's text or the error's message."""
        try:
            answer = chat.complete({"messages": [{"role": "user", "content": prompt}], **fields}, self.face.model)
        except ChatError as error:
            return error.status, str(error)
        if fields.get("stream"):
            return 200, "".join(piece.choices[0].delta.content for piece in answer)
        return 200, answer.choices[0].message.content


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all cases: what one case spoils, the next one sees."""
    face = Face(tmp_path_factory.mktemp("adversary"), max_concurrency=ROWS_AT_ONCE)
    engine = RudeEngine({case.mark: case.do for case in CASES})
    face.runs(engine)
    made = Place(face, engine)
    made.score([f"row {i} to begin with" for i in range(50)])
    made.before = with_connections(held_here(engine), engine.connections, MOST_CONNECTIONS)
    yield made
    face.close()
    engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mark)
def test_rows(place: Place, case: Case) -> None:
    """The case costs at most its own rows; the next caller, health and what is held are as before."""
    check_rows(case, place.score)
    assert place.face.client().get("/health/").status_code == 200
    check_held(place.before, lambda: held_here(place.engine))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mark)
def test_chat(place: Place, case: Case) -> None:
    """A chat has the status that says whose fault it was, an answer is its own, and so is the next one's."""
    prompt = f"<{case.mark}> chat"
    status, text = place.chat(prompt)
    assert case.chat in (status, EITHER), text
    assert status != 200 or text == f"echo: {prompt}" or case.chat == EITHER
    for fields in ({}, {"stream": True}):
        assert place.chat("the next", **fields) == (200, "echo: the next")
    check_held(place.before, lambda: held_here(place.engine))


@pytest.mark.parametrize(("event", "status"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_an_error_in_a_stream_keeps_its_words(place: Place, event: str, status: int) -> None:
    """As the first event it is a status, as a later one an error event; the engine's message is never lost."""
    data = f"data: {event}\n\n".encode()
    first, later = (http(before + data, kind="text/event-stream") for before in (b"", events("one", end=False)))
    place.engine.acts |= {"error first": says(first), "error later": says(later)}
    assert place.chat("<error first>", stream=True) == (status, "boom")
    chunk, last = place.stream("<error later>")
    assert chunk.choices[0].delta.content == "one"
    assert error_of(last)["message"] == "boom"
    assert place.chat("the next", stream=True) == (200, "echo: the next")
