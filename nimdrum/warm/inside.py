"""The NIM image around this process: what its tools need."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nimdrum.base.errors import EngineNotFoundError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines.config_file import read_engine_config
from nimdrum.engines.image import START_SCRIPTS, NimImage, find_nim
from nimdrum.engines.nim import DEFAULT_CACHE
from nimdrum.engines.tools import tool_command, tool_env


@dataclass(frozen=True)
class Inside:
    """The image, and the settings that its tools are run with."""

    image: NimImage
    root: Path
    state_root: Path
    profile: str | None
    env: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def command(self, tool: str) -> tuple[str, ...]:
        """How to call `tool`. Raises EngineNotFoundError."""
        found = tool_command(tool, self.image, self.root, self.env.get("PATH", ""))
        if found is None:
            raise EngineNotFoundError(
                f"This NIM image has no {tool} on PATH. Images that are not for language models may have no "
                "such tools: see the documentation of the image."
            )
        return found


def look_inside(code_dir: Path) -> Inside:
    """Raises EngineNotFoundError outside a NIM image, and SettingsError."""
    hosting = read_hosting(code_dir)
    image = find_nim(hosting.image_root)
    if image is None:
        raise EngineNotFoundError(
            f"This is not the inside of a NIM image: there is no "
            f"{' or '.join(str(hosting.image_root / name) for name in START_SCRIPTS)}. Run the command in a container "
            "of the image, or in a RUN line of a Dockerfile."
        )
    settings = load_settings(code_dir)
    env, secrets = tool_env(settings, hosting, image, read_engine_config(code_dir))
    return Inside(image, hosting.image_root, hosting.state_root, settings.model_profile, env, secrets)


def default_cache(code_dir: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The cache that the engine would use: engine_config.json has the last word. Raises SettingsError."""
    configured = read_engine_config(code_dir).env.get("NIM_CACHE_PATH")
    return Path(configured or environ.get("NIM_CACHE_PATH") or DEFAULT_CACHE).absolute()
