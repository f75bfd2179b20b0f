"""Each address of a name is an endpoint, followed as they change: those of a headless service in Kubernetes, say."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from nimdrum.base.log import event, get_logger
from nimdrum.engines.endpoints import EndpointUrl
from nimdrum.gateway.endpoint import Endpoint

EVERY_SEC = 5.0
MISSED = 3
"""An address is gone when so many looks in a row did not find it: a resolver may answer with a part of them."""

log = get_logger("gateway")


async def resolve(host: str) -> set[str]:
    """Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


class Addresses:
    """Adds and removes the endpoints of one name."""

    def __init__(
        self,
        url: EndpointUrl,
        add: Callable[[EndpointUrl, str | None], Endpoint],
        remove: Callable[[Endpoint], None],
        resolve: Callable[[str], Awaitable[set[str]]] = resolve,
        every_sec: float = EVERY_SEC,
    ) -> None:
        self._url = url
        self._add = add
        self._remove = remove
        self._resolve = resolve
        self._every_sec = every_sec
        self._there: dict[str, Endpoint] = {}
        self._missed: dict[str, int] = {}
        self._trouble = ""

    async def follow(self) -> None:
        """Without end. While the name is not known, what was known before stays."""
        while True:
            try:
                self._take(await self._resolve(self._url.host))
                self._trouble = ""
            except OSError as error:
                trouble = f"the name in {self._url.shown} is not known ({error.strerror or type(error).__name__})."
                if trouble != self._trouble:
                    log.info("%s", trouble)
                self._trouble = trouble
            await asyncio.sleep(self._every_sec)

    def _take(self, found: set[str]) -> None:
        for address in found - self._there.keys():
            event(log, "endpoint.added", at=self._url.shown, address=address)
            self._there[address] = self._add(self._url, address)
        for address in found:
            self._missed.pop(address, None)
        for address in self._there.keys() - found:
            self._missed[address] = self._missed.get(address, 0) + 1
            if self._missed[address] >= MISSED:
                event(log, "endpoint.removed", at=self._url.shown, address=address)
                self._remove(self._there.pop(address))
