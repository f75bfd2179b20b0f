"""The variables that NIM is started with: the container's, the settings', and each in the form that its line reads."""

from collections.abc import Mapping
from pathlib import Path

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import Hosting
from nimdrum.base.parameters import read_parameters
from nimdrum.base.settings import LOG_LEVELS, Settings
from nimdrum.engines.environment import inherited
from nimdrum.engines.plan import PORT
from nimdrum.engines.route import KEYS, TRUE
from nimdrum.engines.verdicts import kept_out

BACKEND_PORT = 8001  # vLLM or SGLang behind the nginx of 2.x
FLAGS = {"true": "1", "yes": "1", "false": "0", "no": "0"}
LOG_LEVELS_2X = {"TRACE": "DEBUG", "DEFAULT": "INFO"}
PEFT_SOURCE, PEFT_REFRESH = "NIM_PEFT_SOURCE", "NIM_PEFT_REFRESH_INTERVAL"
RUNTIME_LORA = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"


def image_env(hosting: Hosting) -> dict[str, str]:
    """What NIM gets from the container. Parameters that DataRobot also injects as plain variables are left out:
    their values come from Settings, or not at all."""
    ours = {*read_parameters(), *kept_out(hosting.environ)}
    return {name: value for name, value in inherited(hosting.environ).items() if name not in ours}


def settings_env(settings: Settings, model: str) -> dict[str, str]:
    env = {
        "NIM_SERVER_PORT": PORT,
        "NIM_HEALTH_PORT": PORT,
        "NIM_SERVED_MODEL_NAME": model,
        "NIM_LOG_LEVEL": settings.log_level,
    }
    if settings.model_profile:
        env["NIM_MODEL_PROFILE"] = settings.model_profile
    if settings.max_model_len:
        env["NIM_MAX_MODEL_LEN"] = str(settings.max_model_len)
    return env


def registry_keys(settings: Settings, hosting: Hosting, configured: Mapping[str, str]) -> dict[str, str]:
    """Keys for the routes that download."""
    # The plain variable is how NVIDIA's own documentation passes the key to a container.
    keys = {name: hosting.environ.get(name, "").strip() for name in ("HF_TOKEN", "NGC_API_KEY")}
    if settings.ngc_api_key:
        keys["NGC_API_KEY"] = settings.ngc_api_key.reveal()
    keys |= {name: configured[name] for name in KEYS if configured.get(name)}
    return {name: key for name, key in keys.items() if key}


def as_the_line_reads_it(env: Mapping[str, str], line: int, health_path: str) -> dict[str, str]:
    """`env` with the values that this line of NIM knows, and with what some of them need. Raises SettingsError for
    those that nothing can be made of."""
    new = dict(env)
    flag = env.get("NIM_JSONL_LOGGING", "").strip().lower()
    new |= {"NIM_JSONL_LOGGING": FLAGS[flag]} if flag in FLAGS else {}  # NIM 1.x ends when it reads true
    level = env.get("NIM_LOG_LEVEL", "").strip().upper()
    if level and level not in LOG_LEVELS:
        raise SettingsError(
            f"NIM_LOG_LEVEL is {env['NIM_LOG_LEVEL']!r}; NIM ends unless it is {', '.join(LOG_LEVELS)}."
        )
    if level:
        new["NIM_LOG_LEVEL"] = level if line == 1 else LOG_LEVELS_2X.get(level, level)
    if is_on(env, "NIM_DYNAMO_SINGLE") and line >= 2:
        # Dynamo bypasses NIM's proxy: its own front listens, whose health route is /health unless told otherwise.
        new |= {"DYN_HTTP_PORT": PORT, "DYN_HTTP_SVC_HEALTH_PATH": health_path}
    if refresh_sec(env) and line >= 2:
        new.setdefault(RUNTIME_LORA, "True")
    return new


def refresh_sec(env: Mapping[str, str]) -> float:
    """After so many seconds NIM reads the folder of LoRA adapters again; 0 never. Raises SettingsError."""
    text = env.get(PEFT_REFRESH, "").strip()
    if not text:
        return 0.0
    if not text.isdigit():
        raise SettingsError(f"{PEFT_REFRESH} is {text!r}; it must be a whole number of seconds.")
    return float(text) if env.get(PEFT_SOURCE) else 0.0


def check_adapters(env: Mapping[str, str]) -> None:
    """Raises SettingsError where NIM could not read its LoRA adapters."""
    source = env.get(PEFT_SOURCE, "").strip()
    if source.startswith("/") and not Path(source).is_dir():
        raise SettingsError(f"{PEFT_SOURCE} is {source}, which is no folder here. Mount it there, or unset it.")


def backend_port(env: Mapping[str, str]) -> int:
    """Raises SettingsError."""
    text = env.get("NIM_BACKEND_PORT", "").strip()
    if text and not (text.isdigit() and 0 < int(text) < 1 << 16):
        raise SettingsError(f"NIM_BACKEND_PORT is {text!r}; it must be a port, from 1 to 65535.")
    return int(text) if text else BACKEND_PORT


def is_on(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").strip().lower() in TRUE
