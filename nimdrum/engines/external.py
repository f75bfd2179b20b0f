"""The plan for an engine that runs elsewhere (a sidecar, NIM Operator, Dynamo, another host).

One that is reached by host and port is spoken to directly, and nothing is started. For all else (https, keys, prefixes,
several at once) the plan starts the gateway, which makes one plain engine on loopback of them.
"""

import base64
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import LOOPBACK, Hosting, child_environment
from nimdrum.base.secret import SHORTEST
from nimdrum.base.settings import Settings
from nimdrum.engines import nim
from nimdrum.engines.config_file import CONFIG_FILE, EngineConfig
from nimdrum.engines.endpoints import VARIABLE, EndpointUrl, GatewayConfig, read_headers, read_urls
from nimdrum.engines.plan import PORT, Bounds, EngineKind, EnginePlan
from nimdrum.engines.work import KNOWN

DEFAULT_PORT = 8000
MOST_IN_FLIGHT = 4096
OWN_STOP_SEC = 5.0
"""The gateway has nothing to save."""


def plan_external(
    plan: EnginePlan, settings: Settings, hosting: Hosting, config: EngineConfig, found: object
) -> EnginePlan:
    """How to reach it. Raises SettingsError."""
    if config.env or config.args:
        raise SettingsError(
            f"{CONFIG_FILE} is there, but an external engine is not started here, so that nothing in it would have an "
            "effect. Remove the file, and configure the engine where it is started."
        )
    if settings.artifacts_uri:
        raise SettingsError(
            "model_artifacts_uri is set, but the engine is external: it has its weights already. Empty the parameter."
        )
    host, port = settings.server_host or LOOPBACK, settings.server_port or DEFAULT_PORT
    if not _needs_gateway(settings):
        return replace(plan, line="external engine", host=host, port=port)
    if settings.engine_urls and (settings.server_host or settings.server_port):
        raise SettingsError(
            "engine_urls is set, and DR_NIM_SERVER_HOST or DR_NIM_SERVER_PORT (or OPENAI_HOST, OPENAI_PORT) too. "
            "Empty the one or the others: they name the same thing."
        )
    endpoints = read_urls(settings.engine_urls or f"http://{f'[{host}]' if ':' in host else host}:{port}")
    return _with_gateway(plan, settings, hosting, endpoints)


def _needs_gateway(settings: Settings) -> bool:
    return bool(
        settings.engine_urls
        or settings.engine_credential
        or settings.engine_headers
        or settings.engine_ca
        or settings.requests_per_minute
    )


def _with_gateway(
    plan: EnginePlan, settings: Settings, hosting: Hosting, endpoints: tuple[EndpointUrl, ...]
) -> EnginePlan:
    headers, secrets = _headers(settings)
    secrets += tuple(each.query for each in endpoints if len(each.query) >= SHORTEST)
    config = GatewayConfig(
        endpoints=endpoints,
        headers=headers,
        has_credential=bool(headers),
        ca=_ca(settings.engine_ca),
        verify=settings.engine_verify_ssl,
        requests_per_minute=settings.requests_per_minute,
        sticky_characters=settings.sticky_characters,
        health_path=plan.health_path,
        model=settings.served_model_name,
        bounds=plan.bounds,
        stall_timeout_sec=settings.stall_timeout_sec,
    )
    text = config.to_json()
    several = f", {len(endpoints)} endpoints" if len(endpoints) > 1 else ""
    return replace(
        plan,
        line=f"external engine at {endpoints[0].shown}{several}",
        argv=(sys.executable, "-m", "nimdrum.gateway", PORT),
        env={**child_environment(plan.network), VARIABLE: text},
        cwd="/",
        port=0,
        health_path=nim.KIND.health_path,  # of the gateway, which speaks as NIM does
        model=None,  # the gateway sees to it that it is the one
        bounds=_together(plan.bounds, len(endpoints)),
        metrics=replace(KNOWN, progress=()),
        speaks_for_others=True,
        stop_timeout_sec=OWN_STOP_SEC,
        secrets=secrets,
        # A digest: a plan's identity may be shown, and another key is another engine.
        identity=(hashlib.sha256(text.encode()).hexdigest(),),
    )


def _headers(settings: Settings) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """For each request, and what of them no log may show. Raises SettingsError."""
    headers = read_headers(settings.engine_headers.reveal()) if settings.engine_headers else ()
    secrets = tuple(value for _, value in headers)
    if credential := settings.engine_credential:
        if any(name.lower() == "authorization" for name, _ in headers):
            raise SettingsError(
                "engine_headers has Authorization, and engine_credential is set too. Empty one of them."
            )
        key, _, password = credential.reveal().partition("\0")
        if password:
            both = base64.b64encode(f"{key}:{password}".encode()).decode()
            headers, secrets = (*headers, ("Authorization", f"Basic {both}")), (*secrets, password, both)
        else:
            headers, secrets = (*headers, ("Authorization", f"Bearer {key}")), (*secrets, key)
    # "Token x" in a header of the user's own: x alone is a secret too. A short one would spoil each line of the log.
    parts = (part for secret in secrets for part in (secret, secret.rpartition(" ")[2]))
    return headers, tuple(dict.fromkeys(part for part in parts if len(part) >= SHORTEST))


def _ca(given: str | None) -> str | None:
    if given is None or "-----BEGIN" in given:
        return given
    if not Path(given).exists():
        raise SettingsError(
            f"Runtime parameter engine_ca is {given!r}; there is no such file or folder, and it is no PEM."
        )
    return str(Path(given).absolute())


def _together(one: Bounds, count: int) -> Bounds:
    """The window of a DRUM process over several endpoints, each of which has a window of its own in the gateway."""
    start, blind, free, ceiling = (
        min(MOST_IN_FLIGHT, each * count) for each in (one.start, one.blind, one.free, one.ceiling)
    )
    return Bounds(start, blind, free, ceiling)


KIND = EngineKind(
    name="external",
    auto_place=2,
    find=lambda settings, hosting: settings.engine_urls or settings.server_host,
    plan=plan_external,
    looked_for=lambda hosting: (
        "an external engine (runtime parameters DR_NIM_SERVER_HOST and engine_urls are empty: set one)"
    ),
    health_path=nim.KIND.health_path,
    bounds=nim.KIND.bounds,
    takes_flags=True,  # they are refused with its environment, in words of its own
)
