"""Whether an endpoint is ready, and what it calls the model: its health route, else its list of models, else one token.

With a key one token is asked for once in any case: nothing else tells whether the key is good, since the others are
often open to all.
"""

import asyncio
import json
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

import aiohttp

from nimdrum.engines.endpoints import EndpointUrl, GatewayConfig
from nimdrum.engines.wire import CHAT_PATH, MODELS_PATH, SHOWN_CHARACTERS, read_error
from nimdrum.gateway.answers import whole_body
from nimdrum.gateway.outgoing import Outgoing
from nimdrum.gateway.trouble import KEY_REFUSED, Trouble, of_error, of_status

LOOK_SEC = 10.0
TOKEN_SEC = 60.0
MISSING = (401, 403, 404, 405, 410, 501)
"""What says: there is no such route here, or not for all."""


class How(Enum):
    """By what an endpoint is found ready."""

    HEALTH = "health"
    MODELS = "models"
    TOKEN = "token"  # noqa: S105 - one of a model


@dataclass(frozen=True)
class Expected:
    """What an endpoint must have to be the one, and by what it is looked at."""

    url: EndpointUrl
    shown: str
    health_path: str
    model: str | None
    """What callers call the model, where that is known."""
    check_key: bool


@dataclass(frozen=True)
class Seen:
    """One look: the endpoint's name for the model, or what is wrong."""

    model: str | None = None
    trouble: Trouble | None = None
    how: How = How.HEALTH
    models: tuple[dict[str, Any], ...] = ()


async def look(asked: Expected, outgoing: Outgoing) -> Seen:
    """Never raises for what the other side does."""
    try:
        return await _look(asked, outgoing)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        return Seen(trouble=of_error(error, asked.shown))


async def look_at_all(config: GatewayConfig) -> tuple[tuple[str, Seen], ...]:
    """One look at each endpoint, for who asks before the start. Raises OSError for a CA that cannot be read."""

    async def one(url: EndpointUrl) -> tuple[str, Seen]:
        outgoing = Outgoing(url, config)
        try:
            asked = Expected(url, url.shown, config.health_path, config.model, config.has_credential)
            return url.shown, await look(asked, outgoing)
        finally:
            await outgoing.close()

    return tuple(await asyncio.gather(*map(one, config.endpoints)))


async def still_there(asked: Expected, outgoing: Outgoing, how: How) -> Trouble | None:
    """The cheap look at one that was ready: what is wrong, if anything."""
    path = asked.health_path if how is How.HEALTH else MODELS_PATH
    try:
        status, _ = await _get(outgoing, path)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        return of_error(error, asked.shown)
    return None if status == HTTPStatus.OK else of_status(status, path, asked.shown)


async def _look(asked: Expected, outgoing: Outgoing) -> Seen:
    how = How.HEALTH
    status, _ = await _get(outgoing, asked.health_path)
    if status != HTTPStatus.OK:
        if status not in MISSING:
            return Seen(trouble=of_status(status, asked.health_path, asked.shown))
        how = How.MODELS
    status, body = await _get(outgoing, MODELS_PATH)
    models: tuple[dict[str, Any], ...] = ()
    if status == HTTPStatus.OK:
        models = _models(body)
    elif status in KEY_REFUSED or status not in MISSING:
        return Seen(trouble=of_status(status, MODELS_PATH, asked.shown))
    elif how is How.MODELS:
        how = How.TOKEN
    names = [model["id"] for model in models]
    model = asked.url.model or (asked.model if asked.model in names or not names else None)
    if model is None and asked.model is None:
        model = next(iter(names), None)
    if model is None:
        return Seen(trouble=_other_model(asked, names))
    unsure = asked.check_key or how is How.TOKEN or model not in names
    if unsure and (trouble := await _ask_token(asked, outgoing, model)):
        return Seen(trouble=trouble)
    return Seen(model, None, how, models)


def _other_model(asked: Expected, names: list[str]) -> Trouble:
    if not names:
        return Trouble(
            f"{asked.shown} lists no model. Name it: served_model_name, or #model=NAME in engine_urls.", True
        )
    listed = ", ".join(names)[:SHOWN_CHARACTERS]
    return Trouble(
        f"{asked.shown} lists {listed}, not {asked.model}. Where that is another name of the same model, put "
        "#model=NAME behind its URL in engine_urls; else see served_model_name."
    )


async def _ask_token(asked: Expected, outgoing: Outgoing, model: str) -> Trouble | None:
    body = {"model": model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
    headers = [("Content-Type", "application/json"), ("Accept", "application/json")]
    sent = json.dumps(body).encode()
    async with outgoing.request("POST", CHAT_PATH, headers, sent, timeout_sec=TOKEN_SEC) as answer:
        status, content = answer.status, (await whole_body(answer))[0]
    if status in (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.TOO_MANY_REQUESTS):
        return None
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY):
        if status == HTTPStatus.NOT_FOUND or "model" in read_error(status, content).message.lower():
            return Trouble(f"{asked.shown} answers {status} for the model {model}. Is the name, or the prefix, right?")
        return None  # it works, and wants a longer prompt or answer, say
    return of_status(status, CHAT_PATH, asked.shown)


async def _get(outgoing: Outgoing, path: str) -> tuple[int, bytes]:
    async with outgoing.request("GET", path, timeout_sec=LOOK_SEC) as answer:
        return answer.status, (await whole_body(answer))[0]


def _models(body: bytes) -> tuple[dict[str, Any], ...]:
    try:
        entries = json.loads(body)["data"]
        return tuple(entry for entry in entries if isinstance(entry["id"], str))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
