"""The plan for NVIDIA NIM inside its own container image: argument list and environment for 1.x and for 2.x/3.x."""

from pathlib import Path

from nimdrum.engines.common import common
from nimdrum.engines.config_file import LOCAL_ROUTE_OWNED, read_engine_config
from nimdrum.engines.environment import inherited
from nimdrum.engines.image import NimImage
from nimdrum.engines.plan import DEFAULT_MODEL_NAME, LOOPBACK, PORT, EnginePlan
from nimdrum.errors import SettingsError
from nimdrum.hosting import Hosting
from nimdrum.settings import Settings

HEALTH_PATH = "/v1/health/ready"
DEFAULT_CACHE = "/opt/nim/.cache"
BACKEND_PORT = 8001  # vLLM or SGLang behind the nginx of 2.x
RESERVED_PORTS = {
    8000: "NIM's own default health listener",
    8001: "NIM's backend",
    8080: "DRUM",
    9090: "Dynamo workers",
}
FLAGS = {"true": "1", "yes": "1", "false": "0", "no": "0"}
LOG_LEVELS_2X = {"TRACE": "DEBUG", "DEFAULT": "INFO"}


def nim_plan(settings: Settings, hosting: Hosting, image: NimImage) -> EnginePlan:
    """How to start the NIM in `image`. Raises SettingsError for settings that cannot work together."""
    _check_port(settings.server_port)
    if settings.server_host not in (None, LOOPBACK, "localhost"):
        raise SettingsError(
            f"DR_NIM_SERVER_HOST is {settings.server_host!r}, but the engine nim is started here and listens on "
            f"{LOOPBACK}. "
            "Set engine to external to use an engine elsewhere, or leave DR_NIM_SERVER_HOST empty."
        )
    model_dir = local_model(hosting.code_dir)
    model = settings.served_model_name or DEFAULT_MODEL_NAME
    chosen = _settings_env(settings, image, model)
    if model_dir and settings.ngc_api_key:
        raise SettingsError(
            f"NGC_API_KEY is set, but the weights are local ({model_dir}): with a key NIM calls NVIDIA's registry, and "
            "fails where it cannot. Empty NGC_API_KEY, or remove the folder model-repo."
        )
    secrets = {} if model_dir else credentials(settings, hosting)
    config = read_engine_config(hosting.code_dir)
    configured = config.nim_env(image.line, LOCAL_ROUTE_OWNED if model_dir else {})
    own = {**chosen, **_local_model_env(model_dir), **configured}
    env = _with_plain_flags({**image_env(hosting), **secrets, **own})
    command = [str(image.entrypoint)] if image.entrypoint else []
    return EnginePlan(
        engine="nim",
        line=f"NIM {image.line}.x",
        argv=(*command, str(image.start_script)),
        env=env,
        cwd=str(image.start_script.parent),
        host=LOOPBACK,
        port=settings.server_port,
        health_path=settings.health_route or HEALTH_PATH,
        model=model,
        **common(settings, hosting),
        cache=None if model_dir else env.get("NIM_CACHE_PATH", DEFAULT_CACHE),
        profile=settings.model_profile,
        other_ports=(_backend_port(env),) if image.line >= 2 else (),
        secrets=(*secrets.values(), *config.secrets),
        identity=tuple(f"{name}={value}" for name, value in sorted({**secrets, **own}.items())),
    )


def _with_plain_flags(env: dict[str, str]) -> dict[str, str]:
    """`env` with NIM_JSONL_LOGGING as 1 or 0: NIM 1.x ends when it reads true."""
    flag = env.get("NIM_JSONL_LOGGING", "").strip().lower()
    return {**env, "NIM_JSONL_LOGGING": FLAGS[flag]} if flag in FLAGS else env


def _backend_port(env: dict[str, str]) -> int:
    text = env.get("NIM_BACKEND_PORT", "")
    return int(text) if text.isdigit() else BACKEND_PORT


def local_model(code_dir: Path) -> Path | None:
    """The folder with weights that a user put beside the hooks: `model-repo`, when there is anything in it."""
    folder = code_dir / "model-repo"
    return folder if folder.is_dir() and any(folder.iterdir()) else None


def image_env(hosting: Hosting) -> dict[str, str]:
    """What NIM gets from the container. Parameters that DataRobot also injects as plain variables are left out:
    their values come from Settings, or not at all."""
    env = inherited(hosting.environ)
    for name in ("NIM_MODEL_PROFILE", "NIM_MAX_MODEL_LEN", "NIM_LOG_LEVEL", "NIM_SERVED_MODEL_NAME"):
        env.pop(name, None)
    return env


def _settings_env(settings: Settings, image: NimImage, model: str) -> dict[str, str]:
    level = settings.log_level if image.line == 1 else LOG_LEVELS_2X.get(settings.log_level, settings.log_level)
    env = {
        "NIM_SERVER_PORT": PORT,
        "NIM_HEALTH_PORT": PORT,
        "NIM_SERVED_MODEL_NAME": model,
        "NIM_LOG_LEVEL": level,
    }
    if settings.model_profile:
        env["NIM_MODEL_PROFILE"] = settings.model_profile
    if settings.max_model_len:
        env["NIM_MAX_MODEL_LEN"] = str(settings.max_model_len)
    return env


def credentials(settings: Settings, hosting: Hosting) -> dict[str, str]:
    """Keys for the routes that download. Never set on an offline route: NIM would try to log in and fail."""
    # The plain variable is how NVIDIA's own documentation passes the key to a container.
    keys = {name: hosting.environ.get(name, "").strip() for name in ("HF_TOKEN", "NGC_API_KEY")}
    if settings.ngc_api_key:
        keys["NGC_API_KEY"] = settings.ngc_api_key.reveal()
    return {name: key for name, key in keys.items() if key}


def _local_model_env(model_dir: Path | None) -> dict[str, str]:
    if model_dir is None:
        return {}
    # 1.x reads NAME, 2.x and later read PATH; NVIDIA's operator sets both too.
    return {"NIM_MODEL_NAME": str(model_dir), "NIM_MODEL_PATH": str(model_dir), "HF_HUB_OFFLINE": "1"}


def _check_port(port: int) -> None:
    if port in RESERVED_PORTS:
        raise SettingsError(
            f"Runtime parameter DR_NIM_SERVER_PORT is {port}, which belongs to {RESERVED_PORTS[port]}. "
            "Choose another port, or 0 for a free one."
        )
