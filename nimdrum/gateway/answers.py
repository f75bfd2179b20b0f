"""One answer on its way back: a whole one in one piece, all else as it comes, and nothing of a key in any."""

import asyncio
from collections.abc import Iterable, Mapping

import aiohttp
from aiohttp import web

from nimdrum.base.secret import MASK
from nimdrum.gateway.endpoint import Endpoint
from nimdrum.gateway.outgoing import HOP_BY_HOP

LARGEST_WHOLE = 1 << 20
"""A JSON answer up to this size is read whole before any of it is passed on: if it breaks off, another is asked."""
NOT_GIVEN = HOP_BY_HOP | {"server", "date", "set-cookie", "content-length", "location"}
REQUEST_ID = "nvcf-reqid"
STATUS_PATH = "/v1/status/"
"""Of NVIDIA's hosted endpoints: where an answer is asked for that was not there in time (202)."""
FIRST_POLL_SEC = 0.25
LONGEST_POLL_SEC = 3.0


class Masking:
    """Takes the secrets out of what an endpoint says of a failure: some repeat the key that they refuse."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted((s.encode() for s in secrets if s), key=len, reverse=True)

    def __call__(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, MASK.encode())
        return data

    def text(self, text: str) -> str:
        return self(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


async def whole_body(answer: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body, and whether that is all of it: at most a little more than LARGEST_WHOLE is read."""
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST_WHOLE:
            return b"".join(pieces), False
    return b"".join(pieces), True


def poll_target(endpoint: Endpoint, headers: Mapping[str, str]) -> str | None:
    """Where to ask for what a 202 promises: its Location, or NVIDIA's status page. None for no such place."""
    if location := headers.get("Location"):
        return endpoint.outgoing.own_target(location)
    request_id = headers.get(REQUEST_ID, "")
    return f"{STATUS_PATH}{request_id}" if request_id.replace("-", "").isalnum() and request_id.isascii() else None


def poll_pause(last_sec: float) -> float:
    return min(LONGEST_POLL_SEC, max(FIRST_POLL_SEC, 1.5 * last_sec))


def given_headers(answer: aiohttp.ClientResponse, endpoint: Endpoint, mask: Masking) -> list[tuple[str, str]]:
    """What the caller gets of the answer's headers; a redirect inside of the endpoint leads through us."""
    named = {word.strip().lower() for word in answer.headers.get("Connection", "").split(",")}
    given = [
        (n, mask.text(v)) for n, v in answer.headers.items() if n.lower() not in NOT_GIVEN and n.lower() not in named
    ]
    if (location := answer.headers.get("Location")) and (target := endpoint.outgoing.own_target(location)):
        given.append(("Location", mask.text(target)))
    return given


async def stream(
    request: web.BaseRequest, answer: aiohttp.ClientResponse, headers: list[tuple[str, str]], begun: bytes = b""
) -> web.StreamResponse:
    """Pass the body on, each piece as it comes; `begun` is what was read of it. One that breaks off breaks off here."""
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    if (length := answer.headers.get("Content-Length", "")).isdecimal():
        response.content_length = int(length)
    await response.prepare(request)
    try:
        if begun:
            await response.write(begun)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
        if request.transport is not None:
            request.transport.abort()
    return response
