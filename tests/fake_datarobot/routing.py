"""How a request finds its route, and how lists are cut into pages."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fake_datarobot.request import Request, Wrong
from fake_datarobot.state import Json, State

PAGE = 2
"""Small, so that every list of some length has a second page."""
USER = {"id": "5f0000000000000000000001", "email": "user@example.com", "name": "User"}


@dataclass(frozen=True)
class Answer:
    body: Any
    status: int = 200
    location: str | None = None


Handler = Callable[..., Answer]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    regex = re.compile("/api/v2/" + pattern.replace("{}", "([0-9a-z.]+)"))

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, regex, handler))
        return handler

    return register


def answer(state: State, request: Request) -> Answer:
    for method, regex, handler in ROUTES:
        if (found := regex.fullmatch(request.path)) and method == request.method:
            return handler(state, request, *found.groups())
    raise Wrong(f"no route {request.method} {request.path}", 404)


def paged(request: Request, things: list[Json], **filters: Callable[[Json, str], bool]) -> Answer:
    """A page of a list, as DataRobot cuts it; other filters than those named break the contract."""
    for name, values in request.query.items():
        if name not in (*filters, "offset", "limit"):
            raise Wrong(f"unknown filter {name}")
        if name in filters:
            things = [thing for thing in things if filters[name](thing, values[0])]
    offset = int(request.query.get("offset", ["0"])[0])
    more = "&".join(f"{k}={v[0]}" for k, v in request.query.items() if k != "offset")
    url = f"http://{request.headers['host']}{request.path}?{more}&offset={offset + PAGE}"
    page = things[offset : offset + PAGE]
    return Answer(
        {"data": page, "count": len(page), "previous": None, "next": url if things[offset + PAGE :] else None}
    )


def named(thing: Json, text: str) -> bool:
    return text.lower() in str(thing.get("name") or thing.get("label")).lower()
