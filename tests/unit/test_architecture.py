"""docs/architecture.md is true: its rooms are the enforced ones, and its walks name what exists and is really walked.

The walks through other processes are walked in tests/edge/test_walks.py.
"""

import re
from itertools import pairwise

import pytest
from http_face import Engine, Face, answer, chunk, engine, face, stream  # noqa: F401
from walked import CHAT, PAGE, ROOMS, ROOT, ROW, WALKS, assert_walked, definitions, recorded

from nimdrum.scoring import loop

PICTURE = (ROOT / "docs/rooms.svg").read_text(encoding="utf-8")
MOST_STOPS = 12


def test_the_rooms_are_those_of_the_contract_in_its_order() -> None:
    """Every room is described once, on the page and in the picture, from the top to the bottom; none is left out."""
    rows = re.findall(r"^\| `([\w.]+)/?` \| (.+) \|$", PAGE, re.MULTILINE)
    assert [room.removesuffix(".py") for room, _ in rows] == ROOMS
    assert all(";" in sentence and sentence.count(". ") == 0 for _, sentence in rows), (
        "one sentence: what, and what not"
    )
    drawn = re.findall(r'<text class="name"[^>]* y="(\d+)">([a-z]+)(?:\.py|/)</text>', PICTURE)
    heights = {room: int(height) for height, room in drawn}
    assert heights.keys() == set(ROOMS)
    assert all(heights[above] <= heights[below] for above, below in pairwise(ROOMS))
    assert heights["hooks"] == heights["tools"]
    assert heights["scoring"] == heights["web"]
    inside = (ROOT / "nimdrum").iterdir()
    there = {path.name.removesuffix(".py") for path in inside if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__main__", "__pycache__"} == set(ROOMS)


def test_the_picture_brings_nothing_along() -> None:
    """No script and nothing from elsewhere: code hosts would not show it."""
    assert not re.search(r"<script|href=|url\(|@import|<foreignObject", PICTURE)
    assert "prefers-color-scheme: dark" in PICTURE


def test_there_are_four_walks() -> None:
    """A row, a parameter, a chat, a crash."""
    assert [title.split()[1].strip(",") for title in WALKS] == ["row", "parameter", "chat", "crash"]


@pytest.mark.parametrize("title", WALKS)
def test_what_a_walk_names_exists(title: str) -> None:
    """Every file, and every function, class or method in it."""
    for stop in WALKS[title]:
        assert (ROOT / stop.path).is_file(), stop.path
        assert set(stop.names) <= definitions(stop.path).keys(), stop


@pytest.mark.parametrize("title", WALKS)
def test_a_walk_is_short_and_does_not_come_back(title: str) -> None:
    """At most twelve stops. A room may wait while the walk is below it (then an arrow leads back); a room that was left
    is not seen again."""
    assert 2 <= len(WALKS[title]) <= MOST_STOPS
    waiting: list[str] = []
    left: set[str] = set()
    for stop in WALKS[title]:
        assert stop.room not in left, f"{stop.path} comes back to {stop.room}"
        if stop.back:
            assert stop.room in waiting, f"{stop.path} has an arrow, but no call from {stop.room} is open"
            while waiting[-1] != stop.room:
                left.add(waiting.pop())
        elif not waiting or waiting[-1] != stop.room:
            assert stop.room not in waiting, f"{stop.path} comes back to {stop.room}"
            waiting.append(stop.room)


def test_a_row_walks_so(face: Face, engine: Engine) -> None:  # noqa: F811
    """Through `custom.py` and an engine on loopback. DRUM calls `score` when `read_input_data` has ended."""
    import custom

    loop._hubs.clear()  # the recorder sees threads that begin after it, so the loop's must
    engine.reply = lambda handler: answer(
        handler, b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'
    )
    calls = recorded(lambda: custom.score(custom.read_input_data(b"promptText,max_tokens\na prompt,5\n"), face.model))
    assert_walked(ROW, calls, unseen={("custom.py", "score"), ("nimdrum/hooks.py", "score")})


def test_a_chat_walks_so(face: Face, engine: Engine) -> None:  # noqa: F811
    """A streamed one, read to its end as DRUM reads it."""
    import custom

    engine.reply = lambda handler: stream(handler, chunk("one"), b"[DONE]")
    ask = {"messages": [{"role": "user", "content": "a prompt"}], "stream": True}
    assert_walked(CHAT, recorded(lambda: list(custom.chat(ask, face.model))))
