"""HTTP to the engine: connections of this process, kept alive, never carried over a fork, never through a proxy."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, TimeoutError

from nimdrum.supervisor.attach import Endpoint

CHAT_PATH = "/v1/chat/completions"
CONNECT_TIMEOUT_SEC = 5.0
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unreachable(Exception):
    """No answer: refused, reset, or the connection broke. The engine may be restarting."""


class TooSlow(Exception):
    """No answer within the time that was given."""


class EngineClient:
    """Sends chat completions to one endpoint. Safe to use from many threads."""

    def __init__(self, endpoint: Endpoint, connections: int) -> None:
        # Retrying is the scorer's business alone: two owners multiply.
        self._pool = urllib3.HTTPConnectionPool(
            endpoint.host, endpoint.port, maxsize=connections, block=False, retries=False, headers=HEADERS
        )

    def send(self, body: bytes, timeout_sec: float) -> Reply:
        """Send one request. Raises Unreachable or TooSlow; every HTTP status is a Reply."""
        timeout = urllib3.Timeout(connect=min(CONNECT_TIMEOUT_SEC, timeout_sec), read=timeout_sec)
        try:
            response = self._pool.request("POST", CHAT_PATH, body=body, timeout=timeout, redirect=False)
        except ConnectTimeoutError as error:
            raise Unreachable("no connection") from error
        except TimeoutError as error:
            raise TooSlow(f"no answer within {timeout_sec:.0f} s") from error
        except HTTPError as error:
            raise Unreachable(type(error).__name__) from error
        return Reply(response.status, response.headers, response.data)


_clients: dict[tuple[int, str, int], EngineClient] = {}


def shared_client(endpoint: Endpoint, connections: int) -> EngineClient:
    """This process's client for `endpoint`; a restarted engine on another port gets a new one."""
    key = (os.getpid(), endpoint.host, endpoint.port)
    client = _clients.get(key)
    if client is None:
        _clients.clear()
        client = _clients[key] = EngineClient(endpoint, connections)
    return client
