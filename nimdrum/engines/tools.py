"""NIM's own command line in its image: where a tool is, and the environment that it needs to download."""

import shutil
from pathlib import Path

from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.config_file import EngineConfig
from nimdrum.engines.image import NimImage
from nimdrum.engines.nim import image_env, registry_keys

LIST, DOWNLOAD, STORE = "list-model-profiles", "download-to-cache", "create-model-store"
# The documentation says "on PATH"; these are for a PATH that an environment of ours has replaced.
FOLDERS = ("opt/nim/llm/.venv/bin", "opt/nim/bin", "usr/local/bin", "usr/bin")


def tool_command(name: str, image: NimImage, root: Path, path: str, *, script: bool = True) -> tuple[str, ...] | None:
    """How to call the tool `name`; None when the image does not have it.

    In 2.x the tools are actions of the start script too (docs.nvidia.com, CLI reference). Without `script` that way
    is not taken: a script that does not know the action might start the engine instead.
    """
    folders = [path, *(str(root / folder) for folder in FOLDERS)]
    found = shutil.which(name, path=":".join(filter(None, folders)))
    if found:
        return (found,)
    if image.line < 2 or not script:
        return None
    return (*((str(image.entrypoint),) if image.entrypoint else ()), str(image.start_script), name)


def tool_env(
    settings: Settings, hosting: Hosting, image: NimImage, config: EngineConfig
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The environment of a tool that may download, keys included, and the values in it that must not be printed.

    Raises SettingsError.
    """
    configured = config.nim_env(image.line)
    keys = registry_keys(settings, hosting, configured)
    env = {**image_env(hosting), "NIM_LOG_LEVEL": "INFO", **keys, **configured}
    env.pop("HF_HUB_OFFLINE", None)  # what the engine is started with later, not what fills its cache now
    return env, (*keys.values(), *config.secrets)
