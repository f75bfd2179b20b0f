"""One request, taken apart: what the routes look at."""

import json
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, urlsplit

from requests_toolbelt import MultipartDecoder


class Wrong(Exception):
    """The request is not one that DataRobot takes: answered with this status, and remembered as a broken contract."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Part:
    """One part of a multipart form."""

    name: str
    filename: str | None
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self) -> dict[str, Any]:
        if self.headers.get("content-type") != "application/json":
            raise Wrong(f"expected JSON, not {self.headers.get('content-type')}")
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    @property
    def parts(self) -> list[Part]:
        kind = self.headers.get("content-type", "")
        if not kind.startswith("multipart/form-data"):
            raise Wrong(f"expected a form, not {kind}")
        return [_part(part) for part in MultipartDecoder(self.body, kind).parts]

    @property
    def is_form(self) -> bool:
        return self.headers.get("content-type", "").startswith("multipart/")


def parse(method: str, target: str, headers: dict[str, str], body: bytes) -> Request:
    split = urlsplit(target)
    return Request(method, split.path, parse_qs(split.query), headers, body)


def _part(part: Any) -> Part:
    header = Message()
    header["Content-Disposition"] = part.headers[b"Content-Disposition"].decode()
    name = header.get_param("name", header="Content-Disposition")
    return Part(str(name), header.get_filename(), part.content)


def exactly(given: dict[str, Any], **wanted: Any) -> None:
    """The payload has these keys and no others, each with its value, or one that a type or function accepts."""
    if set(given) != set(wanted):
        raise Wrong(f"keys {sorted(given)} instead of {sorted(wanted)}")
    for key, want in wanted.items():
        value = given[key]
        good = isinstance(value, want) if isinstance(want, type) else want(value) if callable(want) else value == want
        if not good:
            raise Wrong(f"{key} is {value!r}")
