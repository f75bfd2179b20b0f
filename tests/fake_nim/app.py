"""Routes and phases: loading, ready, engine dead. The completion route itself is in chat.py."""

from __future__ import annotations

import asyncio

from . import bodies
from .chat import Completions
from .config import FakeNimConfig
from .engine import Engine
from .releases import RELEASES
from .wire import HTML, TEXT, Connection, Reply, Request

COMPLETIONS = "/v1/chat/completions"
LIVE, READY = "/v1/health/live", "/v1/health/ready"
METRICS = ("/v1/metrics", "/metrics")


class App:
    """The handler of every connection. `ready` is set by the process once loading is over."""

    def __init__(
        self,
        config: FakeNimConfig,
        names: tuple[str, ...],
        max_model_len: int,
        engine: Engine,
        completions: Completions,
    ) -> None:
        self.ready = False
        self._config = config
        self._names = names
        self._engine = engine
        self._completions = completions
        version = RELEASES[config.release or config.line].version
        self._pages = {
            "/v1/models": bodies.models(names, max_model_len, config.adapters),
            "/v1/version": bodies.version(version),
            "/v1/metadata": bodies.metadata(version, names),
        }

    async def handle(self, request: Request, connection: Connection) -> Reply | None:
        path, method = request.path, request.method
        if path in (LIVE, READY):
            return await self._health(path)
        if not self.ready:
            return Reply(503, bodies.nginx_html(503), HTML)
        if self._config.line == "2.x" and len(request.body) > self._config.largest_body:
            return Reply(413, bodies.nginx_html(413), HTML)
        if path == COMPLETIONS and method == "POST":
            return await self._completions.handle(request, connection)
        if path == COMPLETIONS or (path in self._pages and method != "GET"):
            return Reply(405, bodies.encode({"detail": "Method Not Allowed"}))
        if path in self._pages:
            return Reply(200, bodies.encode(self._pages[path]))
        if path in METRICS and self._config.metrics:
            return Reply(200, self._metrics(), TEXT)
        if self._config.line == "2.x":
            return Reply(404, bodies.nginx_html(404), HTML)
        return Reply(404, bodies.encode({"detail": "Not Found"}))

    async def _health(self, path: str) -> Reply:
        if self._config.slow_health_sec and self._engine.busy:
            await asyncio.sleep(self._config.slow_health_sec)
        line = self._config.line
        if path == LIVE:
            return Reply(200, bodies.encode(bodies.health(line, "live")))
        if self._completions.engine_is_dead():
            body = bodies.error(line, 503, "ServiceUnavailableError", "Service in unhealthy")
            return Reply(503, bodies.encode(body))
        if not self.ready:
            return Reply(503, bodies.encode(bodies.health(line, "not ready")))
        return Reply(200, bodies.encode(bodies.health(line, "ready")))

    def _metrics(self) -> bytes:
        engine = self._engine
        return bodies.metrics(
            self._names[0],
            engine.running,
            engine.waiting,
            engine.prompt_tokens,
            engine.generated(),
            engine.ended,
        )
