"""The engine's environment: the container's without secrets, and without what is DRUM's and DataRobot's.

Pure: mappings in, mapping out.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import PurePath

from nimdrum.base.hosting import NETWORK, leaving_loopback_alone
from nimdrum.base.parameters import PACKAGE
from nimdrum.base.secret import credential_values, is_secret

NEVER = re.compile(
    # DataRobot's and DRUM's, with what DRUM's servers set; ours; and what a shell says of itself
    r"(MLOPS|DATAROBOT|DRUM|DR|GUNICORN|USER_SECRETS|NIMDRUM)_.*"
    r"|TARGET_(NAME|TYPE)|(DEPLOYMENT|MODEL|LLM)_ID|OPENAI_(HOST|PORT)|URL_PREFIX|EXTERNAL_WEB_SERVER_URL|(RUNTIME_PARAMS|CLASS_LABELS)_FILE"
    r"|(POSITIVE|NEGATIVE)_CLASS_LABEL|CLASS_LABELS|DEPLOYMENT_CONFIG|ADDRESS|CODE_DIR|MAX_WORKERS|WITH_ERROR_SERVER"
    r"|SHOW_STACKTRACE|PRODUCTION|MONITOR(_.*)?|ALLOW_DR_API_ACCESS.*|ENABLE_CUSTOM_MODEL_.*|SERVER_SOFTWARE"
    r"|WEB_CONCURRENCY|PROMETHEUS_MULTIPROC_DIR|OTEL_.*HEADERS|VIRTUAL_ENV|PYTHONHOME|PWD|OLDPWD|SHLVL|_"
    r"|HOST|PORT|SAGEMAKER_.*|VLLM_PORT"  # they would move an engine's port, or make vLLM's workers fight over one
)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of DRUM's environment that the engine gets; docs/container.md lists what does not pass.

    Keys never pass; the launcher adds those that a route needs. `PATH` and `PYTHONPATH` lose the virtual environment
    that DRUM runs in (the engine has its own Python), and a proxy is told to leave loopback alone.
    """
    stored = credential_values(environ)
    env = {
        name: value
        for name, value in environ.items()
        if name in NETWORK or not (NEVER.fullmatch(name) or is_secret(name, value) or any(s in value for s in stored))
    }
    for name in ("PATH", "PYTHONPATH"):
        if name in env:
            env[name] = without_venv(env[name], environ.get("VIRTUAL_ENV"))
    if not env.get("PYTHONPATH"):
        env.pop("PYTHONPATH", None)
    return leaving_loopback_alone(env)


def without_venv(path: str, virtual_env: str | None) -> str:
    """`path` without what is of DRUM: the virtual environment in use, and the folders of DRUM and of this package."""
    venvs = [PurePath(venv) for venv in (virtual_env, sys.prefix if sys.prefix != sys.base_prefix else None) if venv]

    def is_drums(folder: PurePath) -> bool:
        return folder == PACKAGE.parent or "datarobot_drum" in folder.parts or any(map(folder.is_relative_to, venvs))

    return ":".join(folder for folder in path.split(":") if folder and not is_drums(PurePath(folder)))
