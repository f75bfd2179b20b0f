"""What the gateway is told: where the endpoints of an external engine are, and with what one comes in. Pure.

It goes to the gateway's process in a variable of its environment, for it holds keys (`docs/decisions/0013-gateway.md`).
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from nimdrum.base.errors import SettingsError
from nimdrum.engines.plan import Bounds
from nimdrum.engines.wire import CHAT_PATH

VARIABLE = "NIMDRUM_GATEWAY"
PARAMETER = "Runtime parameter engine_urls"
EACH_ADDRESS = "each-address"
OPTIONS = ("model", EACH_ADDRESS)
PLENTY = Bounds(start=32, blind=128, free=256, ceiling=512)
ENDS = (CHAT_PATH, "/v1")
"""What people copy along with a base URL; every path of ours begins with /v1 where the API does."""


@dataclass(frozen=True)
class EndpointUrl:
    """One endpoint as the user named it."""

    origin: str
    """Scheme, host and port, as in `https://llm.example:8443`."""
    prefix: str = ""
    """Comes before each path, as in `/api/v2/endpoints/workloads/ID`."""
    query: str = field(default="", repr=False)
    """Goes with each request; may hold a key."""
    model: str | None = None
    """What the endpoint calls the model, where that differs."""
    each_address: bool = False
    """Each address of the name is an endpoint of its own, and they may change."""

    @property
    def shown(self) -> str:
        """For logs and errors."""
        return self.origin + self.prefix

    @property
    def host(self) -> str:
        return urlsplit(self.origin).hostname or ""

    @property
    def is_tls(self) -> bool:
        return self.origin.startswith("https:")


@dataclass(frozen=True)
class GatewayConfig:
    """All that the gateway knows of its task."""

    endpoints: tuple[EndpointUrl, ...]
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """For each request, the credential among them."""
    has_credential: bool = False
    ca: str | None = field(default=None, repr=False)
    """A file, a folder, or PEM."""
    verify: bool = True
    requests_per_minute: float = 0.0
    sticky_characters: int = 0
    health_path: str = "/v1/health/ready"
    """Of the endpoints."""
    model: str | None = None
    """What callers call the model; None takes the first that the first endpoint lists."""
    bounds: Bounds = PLENTY
    """Of each endpoint's window."""
    stall_timeout_sec: float = 300.0

    def to_json(self) -> str:
        """Holds secrets: never write it to a file or a log."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "GatewayConfig":
        document: dict[str, Any] = json.loads(text)
        document["endpoints"] = tuple(EndpointUrl(**each) for each in document["endpoints"])
        document["headers"] = tuple((name, value) for name, value in document["headers"])
        document["bounds"] = Bounds(**document["bounds"])
        return cls(**document)


def read_urls(text: str) -> tuple[EndpointUrl, ...]:
    """The endpoints in the runtime parameter, with blanks, line ends or commas between them. Raises SettingsError."""
    found = tuple(_read_url(each) for each in text.replace(",", " ").split())
    for i, each in enumerate(found):
        if each.shown in (other.shown for other in found[:i]):
            raise SettingsError(f"{PARAMETER} names {each.shown} twice. Name each endpoint once.")
    return found


def _read_url(text: str) -> EndpointUrl:
    # Nothing of the text is shown before it is known where in it a key may be.
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise SettingsError(f"{PARAMETER} holds something that is no URL. {_shape()}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"{PARAMETER} holds something that does not begin with http:// or https:// and a host. {_shape()}"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"{PARAMETER} has a user or password before {host}. Put them into engine_credential.")
    prefix = parts.path.rstrip("/")
    for end in ENDS:
        prefix = prefix.removesuffix(end)
    pairs = (each.partition("=") for each in parts.fragment.split("&") if each)
    options = {name: unquote(value) for name, _, value in pairs}  # a + in a model's name is one
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    if unknown := ", ".join(sorted(options.keys() - set(OPTIONS))):
        raise SettingsError(
            f"{PARAMETER}: after # of {origin}{prefix} stands {unknown}; known are {', '.join(OPTIONS)}."
        )
    return EndpointUrl(origin, prefix, parts.query, options.get("model") or None, EACH_ADDRESS in options)


def _shape() -> str:
    return "One is written as https://host:port/prefix, and with #model=NAME where its model has another name."


def read_headers(text: str) -> tuple[tuple[str, str], ...]:
    """The runtime parameter engine_headers. Raises SettingsError, without a value."""
    wrong = 'Runtime parameter engine_headers must be a JSON object of texts, such as {"X-Api-Key": "..."}.'
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SettingsError(wrong) from None
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise SettingsError(wrong)
    for name, value in document.items():
        if not name or not name.isascii() or any(c in "\r\n\0" for c in name + value) or set(name) & set(" :"):
            raise SettingsError(f"Runtime parameter engine_headers: {name!r} or its value cannot be a header.")
    return tuple(document.items())
