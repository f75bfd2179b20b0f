"""Why an engine did not start: known log lines as data, each with the sentence that its user needs.

Patterns come from users' logs of NIM 1.x and 2.x and from vLLM and llama.cpp; they are matched without regard to
case against the last log lines, the last match in a line's order of the table first. Pure.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """One sentence for the user, and whether starting again can help (None: unknown)."""

    sentence: str
    retry: bool | None


def _known(pattern: str, sentence: str, *, retry: bool | None) -> tuple[re.Pattern[str], Cause]:
    return re.compile(pattern, re.IGNORECASE), Cause(sentence, retry)


KNOWN = (
    _known(
        r"could not find a profile that is currently runnable|detected 0 compatible profile|low free gpu memory",
        "No model profile runs on the GPUs that are free here: another process holds them, they are too small, or "
        "too few. "
        "See nvidia-smi and the profiles in the log; choose another profile or a larger resource bundle.",
        retry=False,
    ),
    _known(
        r"no gpus? (were )?found|forget.{0,20}--runtime=nvidia|no cuda gpus are available|failed to infer device type",
        "No GPU is visible to the engine. Run the container with GPUs (a GPU resource bundle in DataRobot, --gpus "
        "all in Docker).",
        retry=False,
    ),
    _known(
        r"unknown profiles? provided",
        "NIM_MODEL_PROFILE names a profile that this image does not have. Empty it, or take an id from "
        "list-model-profiles.",
        retry=False,
    ),
    _known(
        r"unsupported value.*(NIM_LOG_LEVEL|NIM_JSONL_LOGGING)|(NIM_LOG_LEVEL|NIM_JSONL_LOGGING).*unsupported value",
        "The image does not accept the value of NIM_LOG_LEVEL or NIM_JSONL_LOGGING. Use INFO, and 0 or 1.",
        retry=False,
    ),
    _known(
        r"missing huggingface configuration file|invalid repository id or local directory|failed to load model"
        r"|error loading model",
        "The model folder or file cannot be loaded: it is incomplete or of another kind (config.json is missing, say). "
        "Check what lies in model-repo or behind NIM_MODEL_NAME.",
        retry=False,
    ),
    _known(
        r"requires permissions that the user does not have|manifestdownloaderror|\b(401|403)\b.{0,40}(unauthorized"
        r"|forbidden|ngc)"
        r"|(unauthorized|forbidden|authentication).{0,80}(ngc|nvcr|api\.nvidia)|(ngc|nvcr).{0,80}\b(401|403)\b",
        "NVIDIA's registry refused the key: NGC_API_KEY is missing, wrong, or has no access to this model.",
        retry=False,
    ),
    _known(
        r"payment required|\b402\b.{0,40}(ngc|nvcr)|\b451\b.{0,60}(ngc|nvcr|legal)",
        "NVIDIA's registry refuses this model for this account (no entitlement, or not in this region).",
        retry=False,
    ),
    _known(
        r"error sending request for url|failed to (resolve|connect).{0,60}(ngc|nvidia|huggingface)"
        r"|(name or service not known|getaddrinfo|temporary failure in name resolution)",
        "The engine could not reach the registry: the network policy allows no egress, or a name does not resolve. "
        "Allow public egress, or use local weights (see README, air-gapped).",
        retry=None,
    ),
    _known(
        r"errors? fetching files|download failed after",
        "The download of the model failed. See the log lines before it.",
        retry=True,
    ),
    _known(
        r"no space left on device",
        "The disk is full. Give the cache (NIM_CACHE_PATH) a larger volume.",
        retry=False,
    ),
    _known(
        r"read-only file system",
        "The engine cannot write where it must: the file system is read-only. Mount the writable folders that README "
        "lists.",
        retry=False,
    ),
    _known(
        r"permission denied|os error 13",
        "The engine may not write or run a file: this user id has no right to it. Check the owner and group of "
        "NIM_CACHE_PATH.",
        retry=False,
    ),
    _known(
        r"too many open files",
        "The limit of open files is too low for this model. Raise nofile (ulimit -n).",
        retry=False,
    ),
    _known(
        r"cuda out of memory|outofmemoryerror|no available memory for the cache blocks"
        r"|larger than the maximum number of tokens that can be stored in kv cache"
        r"|free memory on device.{0,80}less than",
        "The GPU's memory does not suffice. Lower NIM_MAX_MODEL_LEN, choose another profile, or free the GPU.",
        retry=None,
    ),
    _known(
        r"address already in use|couldn't bind|cannot bind",
        "A port that the engine needs is taken by another process.",
        retry=True,
    ),
    _known(
        r"no module named",
        "A Python package that the engine needs is missing.",
        retry=False,
    ),
)


def find_cause(lines: Sequence[str], exit_code: int | None) -> Cause:
    """The cause of a failed engine from its last log lines (oldest first) and its exit code."""
    for pattern, cause in KNOWN:
        if any(pattern.search(line) for line in lines):
            return cause
    seen = "" if not lines else f" Its last line was: {lines[-1][:300]}"
    return Cause(f"The engine ended {_ending(exit_code)} and gave no reason that is known here.{seen}", retry=None)


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "on its own"
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"by {name}"
    if exit_code == 137:
        return "with code 137 (killed, often for want of memory)"
    return f"with code {exit_code}"
