"""What `list-model-profiles` prints, as data. Pure.

Both lines print the GPUs, then headings with profiles below them; the headings and their order differ. The shape is
from NVIDIA's documentation and public logs.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from nimdrum.system.gpu import gpus_needed

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


def table(listing: Listing) -> str:
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
