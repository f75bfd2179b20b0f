"""All runtime parameters in one frozen, validated `Settings`: read once, here, and nowhere else.

DRUM's own `RuntimeParameters` is the reader; definitions, defaults and bounds come from model-metadata.yaml,
because DRUM applies no default at all unless it was started with `--runtime-params-file`.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimdrum.base.credentials import engine_credential, ngc_key, stored_credential
from nimdrum.base.errors import SettingsError
from nimdrum.base.fields import FIELDS, Number
from nimdrum.base.parameters import convert, not_a_parameter, read_parameters
from nimdrum.base.secret import Secret

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "DEFAULT", "WARNING", "ERROR", "CRITICAL")
ARTIFACTS_TARGETS = ("model", "cache", "adapters")

PLAIN = {"DR_NIM_SERVER_HOST": "OPENAI_HOST", "DR_NIM_SERVER_PORT": "OPENAI_PORT"}
"""Plain variables that DRUM's own NIM road reads where the parameter is not set."""
PREFIX = "MLOPS_RUNTIME_PARAM_"
DRUMS_OWN = re.compile(
    "DRUM_.*|CUSTOM_MODEL_WORKERS|LLM_ID|USE_NIM_WATCHDOG|NIM_WATCHDOG_.*|OTEL_.*|DISABLE_MODERATION|MLOPS_.*"
)

Reader = Callable[[str], Any]


@dataclass(frozen=True)
class Settings:
    """What the user set. Field names are the project's; each comes from one runtime parameter (see `load_settings`)."""

    engine: str
    """In small letters; which there are, `nimdrum.engines` knows."""
    ngc_api_key: Secret | None
    served_model_name: str | None
    model_profile: str | None
    max_model_len: int | None
    api_server_count: int
    log_level: str
    system_prompt: str | None
    prompt_column: str
    n: int
    fields: Mapping[str, Any]
    """What is set of `nimdrum.base.fields.FIELDS`, which go into each request."""
    split_reasoning: bool
    per_row_columns: bool
    extra_output_columns: bool
    journal: Path | None
    max_concurrency: int
    batch_share: float
    """Per cent."""
    batch_token_limit: int
    batch_time_limit_sec: float
    row_timeout_sec: float
    client_timeout_sec: float
    direct_access_timeout_sec: float
    startup_timeout_sec: float
    max_restarts: int
    max_backoff_sec: float
    stall_timeout_sec: float
    stop_timeout_sec: float
    server_host: str | None
    server_port: int
    health_route: str | None
    engine_urls: str | None
    engine_credential: Secret | None
    """A key; or a user and a password, with NUL between them."""
    engine_headers: Secret | None
    """JSON as it was written."""
    engine_ca: str | None
    engine_verify_ssl: bool
    requests_per_minute: float
    sticky_characters: int
    verify_ssl: bool
    apply_defaults_to_chat: bool
    max_request_mb: int
    pass_through_paths: tuple[str, ...]
    artifacts_uri: str | None
    artifacts_credential: Secret | None
    """The stored credential as JSON."""
    artifacts_target: str


def load_settings(code_dir: Path | None, read: Reader | None = None) -> Settings:
    """The settings of this process. `read(name)` gives a parameter's raw value, None when it is not set.

    Raises SettingsError, which names the parameter, what was wrong and what is allowed.
    """
    read = read or drum_reader
    parameters = read_parameters(code_dir)

    def value(name: str) -> Any:
        return convert(parameters[name], read(name))

    def text(name: str) -> Any:
        raw = read(name)
        return None if isinstance(raw, str) and not raw.strip() else convert(parameters[name], raw)

    def whole(name: str) -> Any:
        number = value(name)
        if isinstance(number, float):
            raise SettingsError(f"Runtime parameter {name} is {number}; allowed is a whole number.")
        return number

    def word(name: str, allowed: tuple[str, ...]) -> str:
        given = str(value(name))
        for candidate in allowed:
            if given.strip().lower() == candidate.lower():
                return candidate
        raise SettingsError(f"Runtime parameter {name} is {given!r}; allowed are {', '.join(allowed)}.")

    def request_field(name: str) -> Any:
        read = FIELDS[name]
        if isinstance(read, Number):
            return read.of(whole(name) if read.whole else value(name))
        try:
            return None if (given := value(name)) is None else read(given)
        except ValueError as error:
            raise SettingsError(f"Runtime parameter {name} {error}.") from None

    settings = Settings(
        engine=str(value("engine")).strip().lower(),
        ngc_api_key=ngc_key(value("NGC_API_KEY")),
        served_model_name=value("served_model_name"),
        model_profile=value("NIM_MODEL_PROFILE"),
        max_model_len=whole("NIM_MAX_MODEL_LEN"),
        api_server_count=whole("api_server_count"),
        log_level=word("NIM_LOG_LEVEL", LOG_LEVELS),
        system_prompt=text("system_prompt"),
        prompt_column=value("prompt_column_name"),
        n=whole("n") or 1,
        fields={name: given for name in FIELDS if (given := request_field(name)) is not None},
        split_reasoning=value("split_reasoning"),
        per_row_columns=value("per_row_columns"),
        extra_output_columns=value("extra_output_columns"),
        journal=None if (journal := text("journal")) is None else Path(journal),
        max_concurrency=whole("max_concurrency"),
        batch_share=value("batch_share"),
        batch_token_limit=whole("batch_token_limit"),
        batch_time_limit_sec=value("batch_time_limit_sec"),
        row_timeout_sec=value("row_timeout_sec"),
        client_timeout_sec=value("DRUM_OPENAI_CLIENT_TIMEOUT"),
        direct_access_timeout_sec=value("NIM_DIRECT_ACCESS_REQUEST_TIMEOUT"),
        startup_timeout_sec=value("startup_timeout_sec"),
        max_restarts=whole("max_watchdog_restarts"),
        max_backoff_sec=value("max_watchdog_backoff_sec"),
        stall_timeout_sec=value("stall_timeout_sec"),
        stop_timeout_sec=value("stop_timeout_sec"),
        server_host=value("DR_NIM_SERVER_HOST"),
        server_port=whole("DR_NIM_SERVER_PORT"),
        health_route=value("DR_NIM_HEALTH_ROUTE"),
        engine_urls=text("engine_urls"),
        engine_credential=engine_credential(value("engine_credential")),
        engine_headers=None if (headers := text("engine_headers")) is None else Secret(headers),
        engine_ca=text("engine_ca"),
        engine_verify_ssl=value("engine_verify_ssl"),
        requests_per_minute=value("requests_per_minute"),
        sticky_characters=whole("sticky_characters"),
        verify_ssl=value("verifySSL"),
        apply_defaults_to_chat=value("apply_defaults_to_chat"),
        max_request_mb=whole("max_request_mb"),
        pass_through_paths=_paths(value("pass_through_paths") or ""),
        artifacts_uri=value("model_artifacts_uri"),
        artifacts_credential=stored_credential(value("model_artifacts_credential")),
        artifacts_target=word("model_artifacts_target", ARTIFACTS_TARGETS),
    )
    if settings.health_route and not settings.health_route.startswith("/"):
        raise SettingsError(
            f"Runtime parameter DR_NIM_HEALTH_ROUTE is {settings.health_route!r}; it must start with '/', as "
            "/v1/health/ready does."
        )
    for limit in ("batch_token_limit", "batch_time_limit_sec"):
        if getattr(settings, limit) and not settings.extra_output_columns:
            raise SettingsError(
                f"Runtime parameter {limit} is set, but extra_output_columns is false, so a row could not say that it "
                "was skipped. Switch extra_output_columns on, or set the limit to 0."
            )
    return settings


def unknown_variables(model_dir: Path, environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable of a parameter that nothing defines; DRUM takes no notice of those."""
    known = read_parameters(model_dir)
    named = {name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)}
    given = {name for name in named if not DRUMS_OWN.fullmatch(name)}
    return [not_a_parameter(name, known) for name in sorted(given - set(known))]


def drum_reader(name: str) -> Any:
    """The raw value of a runtime parameter as DRUM reads it; None when it is missing or null.

    DRUM refuses an empty string, and its error texts contain the value, credentials included, so they are
    not passed on. Raises SettingsError with the name only.
    """
    from datarobot_drum import RuntimeParameters

    if not RuntimeParameters.has(name):
        return os.environ.get(PLAIN[name]) if name in PLAIN else None
    try:
        return RuntimeParameters.get(name)
    except Exception:
        if _is_empty(os.environ.get(RuntimeParameters.namespaced_param_name(name), "")):
            return ""
    raise SettingsError(
        f"Runtime parameter {name} could not be read: its environment variable is not the JSON object with "
        "'type' and 'payload' that DataRobot sets, or the payload is not of that type. Set it again in DataRobot, "
        "or give it in a file with --runtime-params-file."
    )


def _is_empty(raw: str) -> bool:
    if raw.strip() == "":
        return True
    try:
        document = json.loads(raw)
    except ValueError:
        return False
    return isinstance(document, dict) and isinstance(payload := document.get("payload"), str) and payload.strip() == ""


def _paths(text: str) -> tuple[str, ...]:
    paths = tuple(path.strip("/") or path for path in text.replace(",", " ").split())
    if wrong := next((path for path in paths if "*" in path[:-1]), None):
        raise SettingsError(f"Runtime parameter pass_through_paths names {wrong!r}; a * may only be a path's end.")
    return paths
