"""What may pass between a caller and the engine on the pass-through routes: paths and headers. Pure."""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer trailers "
    "transfer-encoding upgrade http2-settings".split()
)
MADE_AGAIN = frozenset("host content-length expect x-request-id via date server".split())
SECRET_PARTS = ("authorization", "cookie", "token", "secret", "password", "credential", "api-key", "api_key", "apikey")
PRIVATE_STARTS = ("x-datarobot", "datarobot", "x-drum", "x-forwarded", "forwarded", "x-real-ip", "x-amz", "x-goog")
PATH_SAFE = "/-._~!$&'()*+,;=:@"
QUERY = re.compile(r"[!-~]*")
CONTROL = re.compile(r"[\x00-\x20\x7f\\]")


class PathRefused(ValueError):
    """A path that no client of an engine needs."""


def engine_target(path: str, query: str) -> str:
    """The request target for the engine from a decoded path and the raw query. Raises PathRefused.

    Refused are `.` and `..` in any encoding, empty parts (`//host`), absolute URLs, backslashes and control
    characters: they could mean something else to the engine, or to a proxy before it, than to us.
    """
    path = path.rstrip("/")  # as DRUM's own pass-through does
    decoded = unquote(path)
    for form in (path, decoded, unquote(decoded)):
        parts = form.rstrip("/").split("/")
        if any(part in ("", ".", "..") for part in parts) or CONTROL.search(form) or "://" in form:
            raise PathRefused("This path is not passed through.")
    if not QUERY.fullmatch(query) or "#" in query:
        raise PathRefused("This query is not passed through.")
    return f"/{quote(path, safe=PATH_SAFE)}" + (f"?{query}" if query else "")


def to_engine(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The caller's headers that the engine gets: no hop-by-hop ones, nothing that says who the caller is."""
    return [(name, value) for name, value in _end_to_end(headers) if not _is_private(name)]


def to_caller(headers: Iterable[tuple[str, str]], engine_root: str, own_root: str) -> list[tuple[str, str]]:
    """The engine's headers that the caller gets. A redirect inside the engine is turned into one through us."""
    kept = []
    for name, value in _end_to_end(headers):
        if name.lower() == "location":
            there = urlsplit(value)
            if there.netloc and f"{there.scheme}://{there.netloc}" != engine_root:
                continue
            value = own_root + there.path + (f"?{there.query}" if there.query else "")
        if name.lower() != "set-cookie":
            kept.append((name, value))
    return kept


def _end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    everything = list(headers)
    named = {
        word.strip().lower() for name, value in everything if name.lower() == "connection" for word in value.split(",")
    }
    dropped = HOP_BY_HOP | MADE_AGAIN | named
    return [(name, value) for name, value in everything if name.lower() not in dropped]


def _is_private(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(PRIVATE_STARTS) or any(part in lower for part in SECRET_PARTS)
