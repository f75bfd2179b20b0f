"""The plan for NVIDIA NIM inside its own container image: argument list and environment for 1.x and for 2.x/3.x."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from nimdrum.base.errors import EngineNotFoundError, SettingsError
from nimdrum.base.hosting import LOOPBACK, Hosting
from nimdrum.base.secret import SECRET_NAME
from nimdrum.base.settings import Settings
from nimdrum.engines.api_servers import PARAMETER, Seen, choose_api_servers
from nimdrum.engines.artifacts import (
    ADAPTERS,
    MODEL_REPO,
    artifacts_identity,
    credential_secrets,
    preparation,
    store_variables,
)
from nimdrum.engines.config_file import CONFIG_FILE, PASSTHROUGH, EngineConfig, check_flags, split_flags
from nimdrum.engines.demand import gpus_demanded
from nimdrum.engines.image import START_SCRIPTS, NimImage, find_nim
from nimdrum.engines.nim_env import (
    PEFT_SOURCE,
    as_the_line_reads_it,
    backend_port,
    check_adapters,
    image_env,
    refresh_sec,
    registry_keys,
    settings_env,
)
from nimdrum.engines.plan import DEFAULT_MODEL_NAME, Bounds, EngineKind, EnginePlan
from nimdrum.engines.route import KEYS, MODEL_VARIABLES, Route, WeightsFacts, decide_route
from nimdrum.engines.verdicts import kept_out, of_another_line
from nimdrum.system.cores import usable_cores
from nimdrum.system.gpu import gpu_devices
from nimdrum.weights.folder import content

DEFAULT_CACHE = "/opt/nim/.cache"
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def plan_nim(
    plan: EnginePlan,
    settings: Settings,
    hosting: Hosting,
    config: EngineConfig,
    image: NimImage | None,
    cores: Callable[[], int] = usable_cores,
    gpus: Callable[[], int] = gpu_devices,
) -> EnginePlan:
    """How to start the NIM in `image`. Raises EngineNotFoundError, and SettingsError for what cannot work together."""
    if image is None:
        raise EngineNotFoundError(
            f"The runtime parameter engine is nim, but this image holds no NIM: there is no {_scripts(hosting)}. "
            "Build the image FROM a NIM image, or set engine to auto."
        )
    if settings.server_host not in (None, LOOPBACK, "localhost"):
        raise SettingsError(
            f"DR_NIM_SERVER_HOST is {settings.server_host!r}, but the engine nim is started here and listens on "
            f"{LOOPBACK}. "
            "Set engine to external to use an engine elsewhere, or leave DR_NIM_SERVER_HOST (and OPENAI_HOST) empty."
        )
    if settings.engine_urls:
        raise SettingsError(
            "engine_urls is set, but the engine nim is started here. Set engine to external to use those, or empty it."
        )
    model = settings.served_model_name or DEFAULT_MODEL_NAME
    configured = config.nim_env(image.line)
    inherited_env = image_env(hosting)
    warnings = [*kept_out(hosting.environ).values(), *of_another_line(configured, image.line)]
    adapters = _adapters(settings, hosting, configured)
    facts = _facts(settings, hosting, image, inherited_env, configured)
    route = _pending_route(facts) if plan.pending else decide_route(facts)
    configured = {name: value for name, value in configured.items() if value or name not in route.unset}
    secrets = {name: key for name, key in facts.keys.items() if name not in route.unset}
    own = {**settings_env(settings, model), **route.env, **configured}
    own |= {PEFT_SOURCE: str(adapters)} if adapters else {}
    env = as_the_line_reads_it({**inherited_env, **secrets, **own}, image.line, plan.health_path)
    if not adapters and not plan.pending:
        check_adapters(env)
    other_ports = (backend_port(env),) if image.line >= 2 else ()
    if settings.server_port in other_ports:
        raise SettingsError(
            f"Runtime parameter DR_NIM_SERVER_PORT is {settings.server_port}, which NIM's own backend takes. "
            "Choose another port, or 0 for a free one."
        )
    text = env.get(PASSTHROUGH, "") if image.line >= 2 else ""
    flags = split_flags(text)
    if PASSTHROUGH not in configured and not plan.pending:
        check_flags(flags, f"{PASSTHROUGH} of the container", f" Flags in args of {CONFIG_FILE} take its place.")
    profile = env.get("NIM_MODEL_PROFILE")
    gpus_needed, needed_by = gpus_demanded(profile, env, flags)
    seen = Seen(
        line=image.line,
        backend=image.backend,
        flags=flags,
        env=env,
        multimodal=_is_multimodal(env.get("NIM_MODEL_PATH", "")),
        cores=cores(),
        gpus=gpus_needed or gpus(),
    )
    servers = choose_api_servers(settings.api_server_count, seen)
    if servers.flags:
        env[PASSTHROUGH] = f"{text} {servers.flags}".lstrip()
    command = [str(image.entrypoint)] if image.entrypoint else []
    into = adapters or route.fetch_into
    return replace(
        plan,
        line=f"NIM {image.line}.x",
        argv=(*command, str(image.start_script)),
        env=env,
        cwd=str(image.start_script.parent),
        model=model,
        warning=" ".join(filter(None, warnings)),
        cache=env.get("NIM_CACHE_PATH", DEFAULT_CACHE) if route.uses_cache else None,
        gpus_needed=gpus_needed,
        gpus_needed_by=needed_by,
        other_ports=other_ports,
        prepare=(preparation(settings, hosting, into),) if into else (),
        renew=preparation(settings, hosting, adapters, renew=True) if adapters and refresh_sec(env) else None,
        renew_sec=refresh_sec(env) if adapters else 0.0,
        route=route.name,
        route_reason=route.why + (f" LoRA adapters are fetched into {adapters}." if adapters else ""),
        api_servers=servers.why,
        optional_flags="" if settings.api_server_count else servers.flags,
        secrets=(*secrets.values(), *_secret_values(route.env), *config.secrets, *credential_secrets(settings)),
        # Not a number that the machine chose: a replaced worker must find the engine that runs.
        identity=(
            *_identity({**secrets, **own}, configured),
            *artifacts_identity(settings),
            *((f"{PARAMETER}={settings.api_server_count}",) if settings.api_server_count else ()),
            *(f"{name}={env[name]}" for name in (VISIBLE_GPUS,) if env.get(name)),  # Ray's actors on other GPUs
        ),
    )


def _adapters(settings: Settings, hosting: Hosting, configured: Mapping[str, str]) -> Path | None:
    """The folder that LoRA adapters are fetched into; None where none are. Raises SettingsError."""
    if settings.artifacts_uri is None or settings.artifacts_target != ADAPTERS:
        return None
    if configured.get(PEFT_SOURCE):
        raise SettingsError(
            f"model_artifacts_target is {ADAPTERS} and {CONFIG_FILE} sets {PEFT_SOURCE}: both say where the LoRA "
            "adapters are. Use one."
        )
    return hosting.code_dir / ADAPTERS


def _pending_route(facts: WeightsFacts) -> Route:
    into = facts.cache if facts.artifacts_target == "cache" else facts.model_repo
    return Route("", {}, (), "", into if facts.artifacts_uri else None)


def _is_multimodal(folder: str) -> bool:
    """Whether the weights in `folder` also read pictures or sound, as far as their config.json tells."""
    try:
        text = Path(folder, "config.json").read_text(encoding="utf-8", errors="replace") if folder[:1] == "/" else ""
    except OSError:
        return False
    return '"vision_config"' in text or '"audio_config"' in text


def _identity(env: dict[str, str], configured: Mapping[str, str]) -> tuple[str, ...]:
    """What makes another engine. Not what the route adds because a cache is filled by now: the engine fills it itself,
    and a worker that is replaced later must find the engine that runs."""
    return tuple(f"{name}={env[name]}" for name in sorted(env) if name in configured or name != "HF_HUB_OFFLINE")


def _facts(
    settings: Settings, hosting: Hosting, image: NimImage, inherited_env: dict[str, str], configured: Mapping[str, str]
) -> WeightsFacts:
    """What the choice of the weights' route rests on; looks at the disk."""
    env = {**inherited_env, **configured}
    cache, model_repo = Path(env.get("NIM_CACHE_PATH", DEFAULT_CACHE)), hosting.code_dir / MODEL_REPO
    named = (env.get(name, "") for name in (*MODEL_VARIABLES, "NIM_FT_MODEL"))
    return WeightsFacts(
        line=image.line,
        model_repo=model_repo,
        model_repo_holds=content(model_repo),
        cache=cache,
        cache_holds=content(cache),
        env=env,
        config=configured,
        folders=frozenset(name for name in named if name.startswith("/") and Path(name).is_dir()),
        keys=registry_keys(settings, hosting, configured),
        chosen_key="NGC_API_KEY"
        if settings.ngc_api_key
        else next((name for name in KEYS if configured.get(name)), None),
        profile=env.get("NIM_MODEL_PROFILE") or settings.model_profile,
        artifacts_uri=None if settings.artifacts_target == ADAPTERS else settings.artifacts_uri,
        artifacts_target=settings.artifacts_target,
        store_variables=store_variables(settings, hosting),
    )


def _secret_values(env: dict[str, str]) -> tuple[str, ...]:
    return tuple(value for name, value in env.items() if SECRET_NAME.search(name))


def _scripts(hosting: Hosting) -> str:
    return " or ".join(f"{hosting.image_root / name}" for name in START_SCRIPTS)


KIND = EngineKind(
    name="nim",
    auto_place=1,
    find=lambda settings, hosting: find_nim(hosting.image_root),
    plan=plan_nim,
    looked_for=lambda hosting: f"a NIM image ({_scripts(hosting)}: build the image FROM one)",
    health_path="/v1/health/ready",
    # An 8B model nearly fills an H100 at 128 rows in flight. On an H200 it was fastest with 512 where answers had
    # 128 tokens, with 256 where they had one, and no faster with 1024 (docs/performance.md).
    bounds=Bounds(start=32, blind=128, free=256, ceiling=512),
    takes_flags=True,
    uses_gpus=True,
)
