"""The gateway as a whole: its endpoints, whoever watches them, and the server that callers speak to."""

import asyncio

from aiohttp import web

from nimdrum.base.hosting import LOOPBACK
from nimdrum.base.log import get_logger
from nimdrum.base.secret import SHORTEST
from nimdrum.engines.endpoints import EndpointUrl, GatewayConfig
from nimdrum.engines.wire import MODELS_PATH
from nimdrum.gateway import pages
from nimdrum.gateway.addresses import Addresses
from nimdrum.gateway.answers import Masking
from nimdrum.gateway.endpoint import Endpoint
from nimdrum.gateway.outgoing import LARGEST_LINE, Outgoing
from nimdrum.gateway.pool import Pool
from nimdrum.gateway.ready import Seen
from nimdrum.gateway.relay import Relay
from nimdrum.gateway.trouble import Trouble
from nimdrum.gateway.watching import Watching

BACKLOG = 4096
TICK_SEC = 0.1
GET = ("GET", "HEAD")
NO_TEXT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}

log = get_logger("gateway")


class Hopeless(Exception):
    """No endpoint can be used as it is configured. The text is a sentence for the user."""


class Gateway:
    """Used in one loop: `begin`, `run`, `end`."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._pool = Pool()
        secrets = [part for _, value in config.headers for part in (value, value.rpartition(" ")[2])]
        secrets += [each.query for each in config.endpoints]
        self._relay = Relay(self._pool, config, Masking(s for s in secrets if len(s) >= SHORTEST))
        self._models: dict[Endpoint, Seen] = {}
        self._tasks: dict[Endpoint | None, list[asyncio.Task[None]]] = {}
        self._hopeless: asyncio.Future[str] | None = None
        self._runner: web.ServerRunner | None = None

    async def begin(self, port: int) -> None:
        """Listen, and look at the endpoints from now on. Raises Hopeless, and OSError for the port."""
        self._hopeless = asyncio.get_running_loop().create_future()
        try:
            for url in self._config.endpoints:
                if url.each_address:
                    addresses = Addresses(url, self._add, self._remove)
                    self._tasks.setdefault(None, []).append(asyncio.create_task(addresses.follow()))
                else:
                    self._add(url)
        except OSError as error:  # of a CA that cannot be read
            raise Hopeless(
                f"Runtime parameter engine_ca cannot be used ({error.strerror or type(error).__name__})."
            ) from error
        server = web.Server(
            self._answer,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=LARGEST_LINE,
            max_field_size=LARGEST_LINE,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, port, backlog=BACKLOG).start()

    async def run(self, stopped: asyncio.Event) -> None:
        """Until `stopped` is set. Raises Hopeless."""
        assert self._hopeless is not None  # noqa: S101 - `begin` comes first
        while not stopped.is_set():
            if self._hopeless.done():
                raise Hopeless(self._hopeless.result())
            # A task that must not end has ended: then the supervisor starts another gateway.
            for task in (task for tasks in self._tasks.values() for task in tasks):
                if task.done():
                    task.result()
            await asyncio.sleep(TICK_SEC)

    async def end(self) -> None:
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        for endpoint in self._pool.endpoints:
            await endpoint.outgoing.close()

    def _add(self, url: EndpointUrl, address: str | None = None) -> Endpoint:
        endpoint = Endpoint(url, self._config, Outgoing(url, self._config, address), address)
        watching = Watching(endpoint, self._config, lambda: self._relay.model, self._seen, self._pool.go)
        self._pool.endpoints.append(endpoint)
        self._tasks[endpoint] = [asyncio.create_task(watching.health()), asyncio.create_task(watching.metrics())]
        return endpoint

    def _remove(self, endpoint: Endpoint) -> None:
        """Its name leads elsewhere now. What it works on it may end."""
        self._pool.endpoints.remove(endpoint)
        self._models.pop(endpoint, None)
        for task in self._tasks.pop(endpoint):
            task.cancel()

    def _seen(self, endpoint: Endpoint, seen: Seen) -> None:
        if seen.model is not None:
            ours = self._relay.model or seen.model
            names = {model["id"] for model in seen.models}
            if seen.model != ours and endpoint.url.model is None and ours not in names:
                endpoint.is_not_ready(Trouble(f"{endpoint.shown} has {seen.model}, the others {ours}."))
                return
            self._relay.model = ours
            self._models[endpoint] = seen
            endpoint.is_ready(seen.model)
            return
        endpoints = self._pool.endpoints
        troubles = [each.trouble for each in endpoints if each.trouble is not None and each.trouble.hopeless]
        never = not any(each.was_up for each in endpoints)
        if never and len(troubles) == len(endpoints) and self._hopeless and not self._hopeless.done():
            self._hopeless.set_result(" ".join(dict.fromkeys(_capital(t.sentence) for t in troubles)))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if request.method in GET:
            if path == pages.HEALTH:
                status, document = pages.health(self._pool.endpoints)
                return web.json_response(document, status=status)
            if path in pages.METRICS:
                return web.Response(text=pages.metrics(self._pool.endpoints, self._pool.waiting), headers=NO_TEXT)
            if path == MODELS_PATH:
                return self._list_models()
        return await self._relay.answer(request)

    def _list_models(self) -> web.Response:
        ours = self._relay.model
        endpoint = next((each for each in self._pool.up if each in self._models), None)
        if ours is None or endpoint is None or endpoint.model is None:
            return web.json_response(pages.health(self._pool.endpoints)[1], status=503)
        return web.json_response(pages.models(self._models[endpoint].models, endpoint.model, ours))


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
