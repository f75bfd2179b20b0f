"""The walks of docs/architecture.md, and what was really walked: every call of a function of this project, recorded.

As a program it runs another one and writes its calls down: `python walked.py OUT -m MODULE ...`, or a file.
"""

import ast
import json
import re
import runpy
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
STOP = re.compile(r"^\d+\. (↑ )?`([\w/]+\.py)` ((?:`[\w.]+`(?:, )?)+): \S", re.MULTILINE)
CONTRACT = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\nlayers = [")[2].partition("]")[0]
LAYERS = [layer.split(" | ") for layer in re.findall(r'"(.+)"', CONTRACT)]  # no tomllib: Python 3.10 has none
"""The rooms of the import-linter contract, from the top, neighbours together."""
ROOMS = [room for layer in LAYERS for room in layer]
HOOKS, PACKAGE = f"{ROOT}/custom.py", f"{ROOT}/nimdrum/"

Place = tuple[str, str]
"""A file, from the top of the project, and a function in it (`Class.method` for a method)."""


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


@cache
def definitions(path: str) -> dict[str, int]:
    """The functions, classes and methods of a file, with the line where each begins."""
    found: dict[str, int] = {}
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        inner = [(f"{node.name}.", each) for each in node.body] if isinstance(node, ast.ClassDef) else []
        for prefix, each in [("", node), *inner]:
            if isinstance(each, ast.FunctionDef | ast.ClassDef):
                found[prefix + each.name] = min([each.lineno, *(mark.lineno for mark in each.decorator_list)])
    return found


@dataclass(frozen=True)
class Call:
    """One call, and the function of this project that made it."""

    by: Place | None
    to: Place


def place(frame: FrameType) -> Place | None:
    code = frame.f_code
    if not code.co_filename.startswith((HOOKS, PACKAGE)):
        return None
    path = code.co_filename[len(str(ROOT)) + 1 :]
    return path, next((name for name, line in definitions(path).items() if line == code.co_firstlineno), code.co_name)


def recorded(work: Callable[[], object]) -> list[Call]:
    """What `work` calls, in all threads, in the order of the calls."""
    calls: list[Call] = []

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


def assert_walked(title: str, calls: list[Call], unseen: Collection[Place] = ()) -> None:
    """The stops were reached in the walk's order, but for the `unseen`, and no file of it called one above itself."""
    paths = {stop.path for stop in WALKS[title]}
    places = [(stop.path, name) for stop in WALKS[title] for name in stop.names if (stop.path, name) not in unseen]
    at = 0
    for path, name in places:
        function = (path, f"{name}.__init__" if name.rpartition(".")[2][0].isupper() else name)
        later = (i for i in range(at, len(calls)) if calls[i].to == function)
        found = next(later, None)
        assert found is not None, f"{path} {name} is not reached from the stop before it"
        at = found + 1
    up = {
        (call.by, call.to)
        for call in calls
        if call.by and {call.by[0], call.to[0]} <= paths and level(call.to[0]) < level(call.by[0])
    }
    assert not up, "a room calls one that stands above it"


def level(path: str) -> int:
    """How far down a file's room stands."""
    return next((i for i, layer in enumerate(LAYERS) if re.split(r"[/.]", path)[1] in layer), -1)


def read_calls(path: Path) -> list[Call]:
    """What the program below wrote."""
    return [Call(tuple(by) if by else None, tuple(to)) for by, to in json.loads(path.read_text(encoding="utf-8"))]


def main() -> None:
    out, *sys.argv = sys.argv[1:]
    calls: list[Call] = []

    def work() -> None:
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")

    def ending() -> None:
        try:
            work()
        except SystemExit as end:
            assert not end.code, end.code

    calls += recorded(ending)
    Path(f"{out}.new").write_text(json.dumps([[call.by, call.to] for call in calls]), encoding="utf-8")
    Path(f"{out}.new").rename(out)


if __name__ == "__main__":
    main()
