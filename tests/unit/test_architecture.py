"""docs/architecture.md is true: its rooms are the enforced ones, and its walks name what exists and is really walked."""

import ast
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from http_face import Engine, Face, answer, chunk, engine, face, stream  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PICTURE = (ROOT / "docs/rooms.svg").read_text(encoding="utf-8")
HOOKS, PACKAGE = f"{ROOT}/custom.py", f"{ROOT}/nimdrum/"
MOST_STOPS = 12
STOP = re.compile(r"^\d+\. (↑ )?`([\w/]+\.py)` ((?:`[\w.]+`(?:, )?)+): \S", re.MULTILINE)


@dataclass(frozen=True)
class Stop:
    """One line of a walk."""

    back: bool
    path: str
    names: tuple[str, ...]

    @property
    def room(self) -> str:
        """The folder below the package; custom.py, hooks.py and lifecycle.py are the hall."""
        parts = self.path.split("/")
        return parts[1] if len(parts) > 2 else "hall"


def walks() -> dict[str, list[Stop]]:
    """The walks of the page by their titles."""
    found = {}
    for section in PAGE.partition("\n## Four walks")[2].split("\n### ")[1:]:
        title, _, text = section.partition("\n")
        stops = [
            Stop(bool(back), path, tuple(re.findall(r"[\w.]+", names))) for back, path, names in STOP.findall(text)
        ]
        assert len(stops) == len(re.findall(r"^\d+\.", text, re.MULTILINE)), f"a stop of {title!r} cannot be read"
        found[title] = stops
    return found


WALKS = walks()
ROW, PARAMETER, CHAT, CRASH = WALKS


CONTRACT = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\nlayers = [")[2].partition("]")[0]
LAYERS = [layer.split(" | ") for layer in re.findall(r'"(.+)"', CONTRACT)]  # no tomllib: Python 3.10 has none
"""The rooms of the import-linter contract, from the top, neighbours together."""
ROOMS = [room for layer in LAYERS for room in layer]


@cache
def definitions(path: str) -> dict[str, int]:
    """The functions, classes and methods (`Class.method`) of a file, with the line where each begins."""
    found: dict[str, int] = {}
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        inner = [(f"{node.name}.", each) for each in node.body] if isinstance(node, ast.ClassDef) else []
        for prefix, each in [("", node), *inner]:
            if isinstance(each, ast.FunctionDef | ast.ClassDef):
                found[prefix + each.name] = min([each.lineno, *(mark.lineno for mark in each.decorator_list)])
    return found


def test_the_rooms_are_those_of_the_contract_in_its_order() -> None:
    """Every room is described once, on the page and in the picture, from the top to the bottom; none is left out."""
    rows = re.findall(r"^\| `([\w.]+)/?` \| (.+) \|$", PAGE, re.MULTILINE)
    assert [room.removesuffix(".py") for room, _ in rows] == ROOMS
    assert all(";" in sentence and sentence.count(". ") == 0 for _, sentence in rows), (
        "one sentence: what, and what not"
    )
    drawn = re.findall(r'<text class="name"[^>]* y="(\d+)">([a-z]+)(?:\.py|/)</text>', PICTURE)
    assert {room for _, room in drawn} == set(ROOMS)
    heights = {room: int(height) for height, room in drawn}
    assert all(heights[above] <= heights[below] for above, below in pairwise(ROOMS) if above != "tools")
    assert heights["hooks"] == heights["tools"] and heights["scoring"] == heights["web"]
    files = {
        path.name.removesuffix(".py") for path in (ROOT / "nimdrum").iterdir() if path.suffix == ".py" or path.is_dir()
    }
    assert files - {"__init__", "__main__", "__pycache__"} == set(ROOMS)


def test_the_picture_brings_nothing_along() -> None:
    """No script and nothing from elsewhere: code hosts would not show it."""
    assert not re.search(r"<script|href=|url\(|@import|<foreignObject", PICTURE)
    assert "prefers-color-scheme: dark" in PICTURE


def test_there_are_four_walks() -> None:
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


@pytest.mark.parametrize("title", WALKS)
def test_each_stop_is_reached_from_one_before_it(title: str) -> None:
    """A file before it imports it, or starts it as a program: the supervisor by its module, the launcher by its file."""
    seen: dict[str, str] = {}
    for stop in WALKS[title]:
        folder, _, name = stop.path.removesuffix(".py").replace("/", ".").rpartition(".")
        ways = rf'from {folder} import .*\b{name}\b|from {folder}\.{name} import|"-m", "{folder}"|"{name}\.py"'
        assert not seen or stop.path in seen or re.search(ways, "\n".join(seen.values())), stop
        seen[stop.path] = (ROOT / stop.path).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Call:
    """One call of a function of this project, and the function of this project that made it, each as file and name."""

    by: tuple[str, str] | None
    to: tuple[str, str]


def recorded(work: Callable[[], object]) -> list[Call]:
    """What `work` calls, in all threads, in the order of the calls."""
    calls: list[Call] = []

    def place(frame: FrameType) -> tuple[str, str] | None:
        code = frame.f_code
        if not code.co_filename.startswith((HOOKS, PACKAGE)):
            return None
        path = code.co_filename[len(str(ROOT)) + 1 :]
        named = (name for name, line in definitions(path).items() if line == code.co_firstlineno)
        return path, next(named, code.co_name)

    def note(frame: FrameType, kind: str, _: Any) -> None:
        if kind == "call" and (to := place(frame)):
            outer = frame.f_back
            while outer is not None and place(outer) is None:
                outer = outer.f_back
            calls.append(Call(place(outer) if outer else None, to))

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    return calls


def level(path: str) -> int:
    """How far down a file's room stands."""
    return next((i for i, layer in enumerate(LAYERS) if re.split(r"[/.]", path)[1] in layer), -1)


def assert_walked(title: str, calls: list[Call], again: tuple[str, ...] = ()) -> None:
    """The stops, each function at its first call, came in the walk's order, and no file of it called one above itself.

    DRUM calls one hook after the other: those that come `again` come later than where the page names them.
    """
    reached = [call.to for call in calls]
    order = []
    for stop in WALKS[title]:
        for name in stop.names:
            function = (stop.path, name + ".__init__" if name.rpartition(".")[2][0].isupper() else name)
            assert function in reached, f"{stop.path} {name} is not walked"
            if not (stop.room == "hall" and name in again):
                order.append((reached.index(function), *function))
    assert order == sorted(order)
    inside = [call for call in calls if call.by and {call.by[0], call.to[0]} <= {stop.path for stop in WALKS[title]}]
    up = {(call.by, call.to) for call in inside if call.by and level(call.to[0]) < level(call.by[0])}
    assert not up, "a room calls one that stands above it"


def test_a_row_walks_so(face: Face, engine: Engine) -> None:  # noqa: F811
    """Through `custom.py` and an engine on loopback, with every call of this project recorded."""
    import custom

    engine.reply = lambda handler: answer(
        handler, b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'
    )
    calls = recorded(lambda: custom.score(custom.read_input_data(b"promptText,max_tokens\na prompt,5\n"), face.model))
    assert_walked(ROW, calls, again=("score",))


def test_a_chat_walks_so(face: Face, engine: Engine) -> None:  # noqa: F811
    """A streamed one, read to its end as DRUM reads it."""
    import custom

    engine.reply = lambda handler: stream(handler, chunk("one"), b"[DONE]")
    ask = {"messages": [{"role": "user", "content": "a prompt"}], "stream": True}
    calls = recorded(lambda: list(custom.chat(ask, face.model)))
    assert_walked(CHAT, calls)
