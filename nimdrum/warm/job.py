"""Which of NIM's tools fills which folder, and whether it did. Pure, apart from looking at the folder.

The exit codes of these tools are documented nowhere, so that what was written decides, and what was said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nimdrum.base.errors import SettingsError, WeightsError
from nimdrum.engines.causes import SHOWN_CHARACTERS, known_cause
from nimdrum.engines.tools import DOWNLOAD, STORE
from nimdrum.system.process import Ended
from nimdrum.warm.tree import Snapshot

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
