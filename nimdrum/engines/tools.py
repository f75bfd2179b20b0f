"""NIM's own command line in its image: where a tool is, what it needs, and what `list-model-profiles` prints."""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.config_file import EngineConfig
from nimdrum.engines.image import NimImage
from nimdrum.engines.nim_env import image_env, registry_keys
from nimdrum.system.gpu import gpus_needed

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


PROFILE = re.compile(r"^(\s*)-\s+([0-9a-f]{64})(?:\s+\(([^)]*)\))?\s*(.*)$")
HEADING = re.compile(r"^(\s*)(?:-\s*)?((?:in)?compatible\b.*|compilable\b.*|with lora\b.*)$", re.IGNORECASE)
GPUS = re.compile(r"^\s*(?:-\s*)?(non-free|free) gpus\b", re.IGNORECASE)
GPU = re.compile(r"^\s*-\s+\[[0-9a-f:]+\]\s+\((\d+)\)\s+(.+?)\s*$", re.IGNORECASE)
PROFILE_ID = re.compile(r"[0-9a-f]{64}")


class Verdict(str, Enum):
    """What the image says of a profile and the GPUs here."""

    RUNNABLE = "runnable"
    LOW_MEMORY = "low memory"
    COMPILABLE = "compilable"
    INCOMPATIBLE = "incompatible"
    UNKNOWN = "unknown"
    """Listed before any heading that is known."""


@dataclass(frozen=True)
class Profile:
    """One profile of the image. `gpus` is None where its name does not tell."""

    id: str
    name: str
    verdict: Verdict
    lora: bool
    gpus: int | None
    note: str
    """What stands behind it: in 2.x the memory that a GPU needs, or a smaller context length that would fit."""


@dataclass(frozen=True)
class Listing:
    """All that was listed, in its order."""

    profiles: tuple[Profile, ...]
    free_gpus: tuple[str, ...] = ()
    busy_gpus: tuple[str, ...] = ()

    def find(self, wanted: str) -> Profile | None:
        """The profile with this id or name; one that runs here first."""
        order = list(Verdict)
        found = [profile for profile in self.profiles if wanted in (profile.id, profile.name)]
        return min(found, key=lambda profile: order.index(profile.verdict), default=None)


def parse_listing(lines: Iterable[str]) -> Listing:
    """Read the tool's output. Log lines before and between are skipped; nothing known gives an empty listing."""
    profiles: list[Profile] = []
    gpus: dict[str, list[str]] = {"free": [], "non-free": []}
    verdict, lora_indent, gpu_group = Verdict.UNKNOWN, -1, ""
    for line in lines:
        if match := PROFILE.match(line):
            indent, name = len(match[1]), match[3] or ""
            lora = 0 <= lora_indent <= indent or "lora" in name.lower()
            profiles.append(Profile(match[2], name, verdict, lora, gpus_needed(name), match[4].strip(" -")))
        elif match := HEADING.match(line):
            if match[2].lower().startswith("with lora"):  # a part of the heading above it
                lora_indent = len(match[1])
            else:
                verdict, lora_indent = _verdict(match[2].lower()), -1
        elif match := GPUS.match(line):
            gpu_group = match[1].lower()
        elif gpu_group and (match := GPU.match(line)):
            gpus[gpu_group].append(f"{match[1]}: {match[2]}")
    return Listing(tuple(profiles), tuple(gpus["free"]), tuple(gpus["non-free"]))


def _verdict(heading: str) -> Verdict:
    if heading.startswith("incompatible"):
        return Verdict.INCOMPATIBLE
    if heading.startswith("compilable"):
        return Verdict.COMPILABLE
    if "low" in heading or "not runnable" in heading:
        return Verdict.LOW_MEMORY
    return Verdict.RUNNABLE


def profiles_table(listing: Listing) -> str:
    """The listing for a terminal, what runs here first."""
    lines = [f"GPU {gpu}" for gpu in listing.free_gpus] + [f"GPU {gpu} (in use)" for gpu in listing.busy_gpus]
    for verdict in Verdict:
        chosen = [profile for profile in listing.profiles if profile.verdict is verdict]
        if chosen:
            lines += ["", f"{verdict.value} ({len(chosen)})"]
        for profile in chosen:
            marks = ["LoRA"] if profile.lora else []
            marks += [f"{profile.gpus} GPU{'s' if profile.gpus > 1 else ''}"] if profile.gpus else []
            marks += [profile.note] if profile.note else []
            lines.append(f"  {profile.id}  {profile.name or '-'}{'  ' if marks else ''}{', '.join(marks)}")
    return "\n".join(lines).lstrip("\n") or "The image listed no profile."
