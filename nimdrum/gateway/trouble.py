"""What is wrong with an endpoint, in one sentence with its address and what to do. Pure."""

import asyncio
import errno
import ssl
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

EXPIRED, SELF_SIGNED, WRONG_NAME = 10, (18, 19, 20, 21), (62, 64)
"""Of OpenSSL's verification errors (x509_vfy.h)."""
KEY_REFUSED = (401, 403)


@dataclass(frozen=True)
class Trouble:
    """`hopeless`: only another configuration helps. `gone`: nobody answered at all."""

    sentence: str
    hopeless: bool = False
    gone: bool = False


def of_error(error: BaseException, address: str) -> Trouble:
    """Of a request that brought no answer."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Trouble(_of_certificate(error.certificate_error, address), hopeless=True)
    if isinstance(error, aiohttp.ClientSSLError):
        return Trouble(f"no TLS with {address} ({_reason(error)}). Does it speak http:// there?", hopeless=True)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Trouble(f"the name in {address} is not known (DNS). See engine_urls, or wait until it is.", gone=True)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Trouble(f"the proxy before {address} does not answer. See HTTPS_PROXY and NO_PROXY.", gone=True)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Trouble(f"the proxy before {address} answers {error.status}. See HTTPS_PROXY and NO_PROXY.", gone=True)
    if isinstance(error, ConnectionRefusedError) or getattr(error, "errno", None) == errno.ECONNREFUSED:
        return Trouble(f"connection refused at {address}. Is it started, and is the port right?", gone=True)
    if isinstance(error, asyncio.TimeoutError):
        return Trouble(f"no answer from {address} in time.", gone=True)
    if isinstance(error, aiohttp.ClientOSError) and (reason := _reason(error)):
        return Trouble(f"no connection to {address} ({reason}).", gone=True)
    return Trouble(f"{address} broke the connection off ({type(error).__name__}).", gone=True)


def of_status(status: int, path: str, address: str) -> Trouble:
    """Of an answer that is not the one of a ready engine."""
    if status in KEY_REFUSED:
        return Trouble(
            f"{address} refuses the key ({status} at {path}). See engine_credential and engine_headers.", True
        )
    if 300 <= status < 400:
        return Trouble(f"{address} answers {status} at {path}: it sends elsewhere. Name that address in engine_urls.")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Trouble(f"{address} answers {status} at {path}: it is not ready.")
    return Trouble(f"{address} answers {status} at {path}. Is the prefix in engine_urls right?")


def _of_certificate(error: BaseException, address: str) -> str:
    code = getattr(error, "verify_code", None)
    said = getattr(error, "verify_message", "") or type(error).__name__
    if code == EXPIRED:
        return f"the certificate of {address} has expired. Renew it there."
    if code in WRONG_NAME or (isinstance(error, ssl.CertificateError) and "mismatch" in said.lower()):
        return f"the certificate of {address} is for another name. Use the name that it is made for in engine_urls."
    if code in SELF_SIGNED:
        return f"nobody whom this container trusts has signed the certificate of {address}. Give its CA in engine_ca."
    return f"the certificate of {address} cannot be trusted: {said}."


def _reason(error: aiohttp.ClientError) -> str:
    inner = getattr(error, "os_error", error)
    if isinstance(inner, ssl.SSLError):
        return inner.reason or "TLS error"
    return getattr(inner, "strerror", "") or ""
