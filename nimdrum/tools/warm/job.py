"""Which of NIM's tools fills which folder, what it needs of the image, and whether it did.

The exit codes of these tools are documented nowhere, so that what was written decides, and what was said.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nimdrum.base.errors import EngineNotFoundError, SettingsError, WeightsError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines.causes import SHOWN_CHARACTERS, known_cause
from nimdrum.engines.config_file import read_engine_config
from nimdrum.engines.image import START_SCRIPTS, NimImage, find_nim
from nimdrum.engines.nim import DEFAULT_CACHE
from nimdrum.engines.tools import DOWNLOAD, STORE, tool_command, tool_env
from nimdrum.system.process import Ended
from nimdrum.tools.warm.manifest import Snapshot


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


LAST_WORDS = 5


@dataclass(frozen=True)
class Job:
    """A tool, its arguments, and the folder that it fills."""

    tool: str
    arguments: tuple[str, ...]
    target: Path


def plan_job(
    line: int,
    cache: Path,
    *,
    profiles: Sequence[str] = (),
    every: bool = False,
    model_uri: str | None = None,
    manifest_file: Path | None = None,
    model_repo: str | None = None,
    model_store: Path | None = None,
) -> Job:
    """What to call in a NIM of `line`. Raises SettingsError for options that do not go together."""
    chosen = [
        name
        for name, given in {
            "--profiles": profiles,
            "--all": every,
            "--model-uri": model_uri,
            "--model-repo": model_repo,
        }.items()
        if given
    ]
    if len(chosen) > 1:
        raise SettingsError(f"{' and '.join(chosen)} exclude each other: give one of them.")
    if manifest_file and not model_uri:
        raise SettingsError("--manifest-file goes with --model-uri.")
    if model_store is not None:
        if model_repo:
            return Job(STORE, ("--model-repo", model_repo, "--model-store", str(model_store)), model_store)
        if len(profiles) != 1:
            raise SettingsError("--model-store needs one profile (--profiles ID), or a --model-repo.")
        return Job(STORE, ("--profile", profiles[0], "--model-store", str(model_store)), model_store)
    if model_repo:
        raise SettingsError("--model-repo needs the folder to fill: --model-store.")
    if model_uri and line < 2:
        raise SettingsError("--model-uri is for model-free images of NIM 2.x and later; this image holds NIM 1.x.")
    if model_uri:
        manifest = ("--manifest-file", str(manifest_file)) if manifest_file else ()
        return Job(DOWNLOAD, ("--model-uri", model_uri, *manifest), cache)
    if every:
        return Job(DOWNLOAD, ("--all",), cache)
    return Job(DOWNLOAD, ("--profiles", *profiles) if profiles else (), cache)


def refuse_failed(tool: str, ended: Ended, before: Snapshot, after: Snapshot, timeout_sec: float) -> None:
    """Raise WeightsError when the tool failed: by its exit code, by what it wrote, or by its last words."""
    cause = known_cause(ended.lines)
    last = next((line.strip() for line in reversed(ended.lines) if line.strip()), "")
    said = cause.sentence if cause else f"Its last line was: {last[:SHOWN_CHARACTERS]}" if last else "It said nothing."
    if ended.exit_code is None:
        raise WeightsError(
            f"{tool} had not ended after {timeout_sec:g} s and was stopped. What it downloaded is kept, and most "
            "downloads go on from there: run the command again, with a longer --timeout-sec."
        )
    if ended.exit_code != 0:
        raise WeightsError(f"{tool} ended with code {ended.exit_code}. {said}")
    if not after:
        raise WeightsError(f"{tool} ended with code 0, but wrote nothing. {said}")
    if known_cause(ended.lines[-LAST_WORDS:]) or (cause and after == before):
        raise WeightsError(f"{tool} ended with code 0, but reported a failure. {said}")
