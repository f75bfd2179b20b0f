"""One request, until an endpoint has answered it: sent, sent again elsewhere, waited for, passed back."""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from aiohttp import web

from nimdrum.engines.endpoints import GatewayConfig
from nimdrum.engines.wire import CHAT_PATH, own_error
from nimdrum.gateway.answers import Masking, given_headers, poll_pause, poll_target, stream, whole_body
from nimdrum.gateway.endpoint import Endpoint
from nimdrum.gateway.pace import LONGEST_CLOSED_SEC, Told, read_headers
from nimdrum.gateway.pool import Pool, Ticket, prefix_of
from nimdrum.gateway.trouble import Trouble, of_error, of_status

SAFE_PATHS = frozenset((CHAT_PATH, "/v1/completions", "/v1/embeddings"))
"""Asking again does nothing but work that was done before."""
NOT_NOW = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
MOST_FAILURES = 5
"""The last is passed on: a request may be what breaks the endpoints. DRUM's side has retries of its own."""
MOST_REFUSALS = 40
POLL_SEC = 30.0
IS_STREAM = re.compile(rb'"stream"\s*:\s*true')
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Again:
    """This request is to be sent once more."""

    trouble: Trouble


class Relay:
    """Passes requests on."""

    def __init__(self, pool: Pool, config: GatewayConfig, mask: Masking) -> None:
        self.model = config.model
        """What callers call the model; known once an endpoint is ready."""
        self._pool = pool
        self._sticky = config.sticky_characters
        self._mask = mask

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read() if request.body_exists else None
        ticket = Ticket(prefix_of(body, self._sticky))
        again = False
        while True:
            endpoint, sent_at = await self._pool.place(ticket, again)
            try:
                outcome = await _Try(self, request, body, ticket, endpoint, sent_at).run()
            finally:
                self._pool.leave(endpoint)
            if not isinstance(outcome, Again):
                return outcome
            if ticket.failures >= MOST_FAILURES:
                message = f"The endpoints failed {ticket.failures} times with this request. {outcome.trouble.sentence}"
                error = own_error(message, "engine_error", HTTPStatus.BAD_GATEWAY)
                return web.json_response({"error": error}, status=HTTPStatus.BAD_GATEWAY)
            again = True

    def mask(self, data: bytes) -> bytes:
        return self._mask(data)

    def headers_of(self, answer: aiohttp.ClientResponse, endpoint: Endpoint) -> list[tuple[str, str]]:
        return given_headers(answer, endpoint, self._mask)

    def with_model(self, body: bytes | None, endpoint: Endpoint) -> bytes | None:
        """The body with the endpoint's name for the model, where that differs from the one that callers use."""
        if body is None or endpoint.model == self.model or not body.lstrip().startswith(b"{"):
            return body
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return body
        if document.get("model") != self.model:
            return body
        return json.dumps({**document, "model": endpoint.model}).encode()


class _Try:
    """One request at one endpoint."""

    def __init__(
        self,
        relay: Relay,
        request: web.BaseRequest,
        body: bytes | None,
        ticket: Ticket,
        endpoint: Endpoint,
        sent_at: float,
    ) -> None:
        self._relay = relay
        self._request = request
        self._body = body
        self._ticket = ticket
        self._endpoint = endpoint
        self._sent_at = sent_at
        self._id = request.headers.get("X-Request-Id", "").encode()
        self._is_safe = request.method in ("GET", "HEAD") or request.raw_path.partition("?")[0] in SAFE_PATHS
        self._silent = True
        """No byte of an answer was passed on."""
        self._sent_away = False

    async def run(self) -> web.StreamResponse | Again:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler is a task
        self._endpoint.tries[task] = self._may_go
        try:
            return await self._ask()
        except asyncio.CancelledError:
            if not self._sent_away or self._request.transport is None:
                raise
            if hasattr(task, "uncancel"):  # Python 3.11
                task.uncancel()
            return self._again(Trouble(f"{self._endpoint.shown} went away.", gone=True))
        finally:
            del self._endpoint.tries[task]

    def _may_go(self) -> bool:
        """Whether this try may be given up, because another endpoint is to be asked."""
        if self._sent_away or not self._silent or not self._is_safe:
            return False
        self._sent_away = True
        return True

    async def _ask(self) -> web.StreamResponse | Again:
        endpoint, request = self._endpoint, self._request
        began = time.monotonic()
        body = self._relay.with_model(self._body, endpoint)
        keep = endpoint.url.is_tls or self._names_itself()
        asking = endpoint.outgoing.request(request.method, request.raw_path, request.headers.items(), body, keep=keep)
        try:
            async with asking as answer:
                promised = answer.status == HTTPStatus.ACCEPTED and poll_target(endpoint, answer.headers)
                if not promised:
                    return await self._take(answer, began, keep)
                endpoint.pace.answered(self._sent_at, read_headers(answer.headers))
                await whole_body(answer)
            return await self._poll(promised, began)
        except aiohttp.ClientConnectorError as error:  # nothing was sent
            trouble = of_error(error, endpoint.shown)
            endpoint.set_aside(trouble)
            return self._again(trouble, counts=False)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            trouble = of_error(error, endpoint.shown)
            endpoint.has_failed(trouble)
            if not self._is_safe:
                raise web.HTTPBadGateway(text=trouble.sentence) from error
            return self._again(trouble)

    def _names_itself(self) -> bool:
        return bool(self._endpoint.names_ids and self._id and self._body and not IS_STREAM.search(self._body))

    async def _poll(self, target: str, began: float) -> web.StreamResponse | Again:
        """Ask for the answer that was promised, until it is there."""
        pause = 0.0
        while True:
            pause = poll_pause(pause)
            await asyncio.sleep(pause)
            asking = self._endpoint.outgoing.request("GET", target, keep=self._endpoint.url.is_tls)
            async with asking as answer:
                told = read_headers(answer.headers)
                if answer.status == HTTPStatus.ACCEPTED:
                    target = poll_target(self._endpoint, answer.headers) or target
                elif answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                    pause = min(POLL_SEC, told.retry_after_sec or 2 * pause)
                    await asyncio.sleep(pause)
                else:
                    return await self._take(answer, began, self._endpoint.url.is_tls)

    async def _take(self, answer: aiohttp.ClientResponse, began: float, kept: bool) -> web.StreamResponse | Again:
        endpoint, ticket, status = self._endpoint, self._ticket, answer.status
        told = read_headers(answer.headers)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            endpoint.has_refused(self._sent_at, told)
            ticket.refusals += 1
            if ticket.refusals < MOST_REFUSALS and (told.retry_after_sec or 0.0) <= LONGEST_CLOSED_SEC:
                return Again(of_status(status, self._request.raw_path, endpoint.shown))
        elif status in NOT_NOW:
            trouble = of_status(status, self._request.raw_path, endpoint.shown)
            endpoint.has_failed(trouble)
            if ticket.failures + 1 < MOST_FAILURES:
                return self._again(trouble)
        else:
            endpoint.pace.answered(self._sent_at, told)
        return await self._give(answer, told, began, kept)

    async def _give(
        self, answer: aiohttp.ClientResponse, told: Told, began: float, kept: bool
    ) -> web.StreamResponse | Again:
        """Pass it on. What is whole is passed on whole."""
        endpoint, ok = self._endpoint, answer.status == HTTPStatus.OK
        headers = self._relay.headers_of(answer, endpoint)
        if ok and answer.content_type != JSON_TYPE:
            self._silent = False
            endpoint.has_answered(self._sent_at, told, None)
            return await stream(self._request, answer, headers)
        content, is_all = await whole_body(answer)
        if ok and self._id and self._body:
            ours = self._id in content
            if kept and not ours and not endpoint.url.is_tls:  # of another request: see session/client.py
                endpoint.names_ids = False
                answer.close()
                return self._again(Trouble(f"{endpoint.shown} gave an answer of another request."))
            endpoint.names_ids = ours
        self._silent = False
        if answer.status not in NOT_NOW and answer.status != HTTPStatus.TOO_MANY_REQUESTS:
            seconds = time.monotonic() - began if ok and self._request.method == "POST" else None
            endpoint.has_answered(self._sent_at, told, seconds)
        if not is_all and ok:
            return await stream(self._request, answer, headers, content)
        if not ok:
            content = self._relay.mask(content)
        response = web.Response(status=answer.status, reason=answer.reason, body=content, headers=headers)
        if self._request.method == "HEAD" and (length := answer.headers.get("Content-Length", "")).isdecimal():
            response.content_length = int(length)
        return response

    def _again(self, trouble: Trouble, counts: bool = True) -> Again:
        self._ticket.tried.add(self._endpoint)
        self._ticket.failures += counts
        return Again(trouble)
