"""How one endpoint is reached: TLS, proxies, headers, connections.

Over plain HTTP a connection is used again only for requests whose answer names them, as in `nimdrum/session/client.py`.
Over TLS always: what ends it there is a proxy that keeps requests and answers apart, and a handshake is dear.
"""

import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from nimdrum.engines.endpoints import EndpointUrl, GatewayConfig

CONNECT_SEC = 10.0
IDLE_SEC = 3.0
"""As in `session/client.py`: uvicorn closes its own after 5 s."""
IDLE_TLS_SEC = 15.0
LARGEST_LINE = 1 << 16
LOOPBACK_NAMES = ("localhost", "::1")
OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What the client library adds of its own accord, unless the caller sent it."""
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    "upgrade".split()
)
NOT_SENT = HOP_BY_HOP | {"host", "content-length", "expect", "authorization", "cookie"}


class Outgoing:
    """Requests to one endpoint. Made in the loop that uses it; close it there."""

    def __init__(self, url: EndpointUrl, config: GatewayConfig, address: str | None = None) -> None:
        """`address` is one of its host's, to be used in the place of the name."""
        self._base = url.origin + url.prefix
        self._query = url.query
        self._server_name: str | None = None
        self._headers = list(config.headers)
        self._replaced = {name.lower() for name, _ in config.headers}
        if address:
            host = f"[{address}]" if ":" in address else address
            authority = url.origin.partition("://")[2]
            self._base = self._base.replace(authority, authority.replace(url.host, host, 1), 1)
            self._server_name = url.host if url.is_tls else None
            if "host" not in self._replaced:
                self._headers.append(("Host", authority))
        self._proxy = None if address else proxy_for(url)
        context = tls_context(config.ca, config.verify) if url.is_tls else None
        self._kept = _session(context, keep_sec=IDLE_TLS_SEC if url.is_tls else IDLE_SEC)
        self._fresh = self._kept if url.is_tls else _session(context)

    def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        keep: bool = False,
        timeout_sec: float | None = None,
    ) -> "aiohttp.client._RequestContextManager":
        """`target` is a path with its query; both are percent-encoded. With `keep` a connection may be used again. The
        answer's body comes as it was sent; a redirect is an answer."""
        session = self._kept if keep else self._fresh
        sent = [(n, v) for n, v in headers if (low := n.lower()) not in NOT_SENT and low not in self._replaced]
        return session.request(
            method,
            self.url(target),
            headers=[*sent, *self._headers],
            data=body,
            allow_redirects=False,
            proxy=self._proxy,
            server_hostname=self._server_name,
            skip_auto_headers=OURS,
            timeout=aiohttp.ClientTimeout(total=timeout_sec, sock_connect=CONNECT_SEC),
        )

    def url(self, target: str) -> URL:
        if self._query:
            target += ("&" if "?" in target else "?") + self._query
        return URL(self._base + target, encoded=True)

    def own_target(self, location: str) -> str | None:
        """The target that a Location of this endpoint means; None where it leads elsewhere. A key goes nowhere else."""
        if location.startswith("//") or not location.isascii() or any(c <= " " for c in location):
            return None
        if location.startswith("/"):
            location = URL(self._base, encoded=True).origin().__str__() + location
        return location.removeprefix(self._base) if location.startswith(self._base + "/") else None

    async def close(self) -> None:
        await self._kept.close()
        await self._fresh.close()


def _session(context: ssl.SSLContext | None, keep_sec: float | None = None) -> aiohttp.ClientSession:
    keeping = {"force_close": True} if keep_sec is None else {"keepalive_timeout": keep_sec}
    connector = aiohttp.TCPConnector(limit=0, ssl=context or True, **keeping)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=LARGEST_LINE,
        max_field_size=LARGEST_LINE,
    )


def tls_context(ca: str | None, verify: bool) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) for a CA that cannot be read."""
    if not verify:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    if ca is None:
        context = ssl.create_default_context()
        if not any(ssl.get_default_verify_paths()[:2]):  # a slim container without any
            from requests.utils import DEFAULT_CA_BUNDLE_PATH

            context.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)
        return context
    if "-----BEGIN" in ca:
        return ssl.create_default_context(cadata=ca)
    return ssl.create_default_context(capath=ca) if Path(ca).is_dir() else ssl.create_default_context(cafile=ca)


def proxy_for(url: EndpointUrl) -> str | None:
    """The proxy that the environment names for it; none for loopback."""
    if url.host in LOOPBACK_NAMES or url.host.startswith("127.") or proxy_bypass(url.host):
        return None
    return getproxies().get(url.origin.partition(":")[0])
