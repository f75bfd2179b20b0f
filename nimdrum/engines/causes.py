"""Why an engine did not start: known log lines as data, each with the sentence that its user needs.

Patterns come from users' logs of NIM 1.x and 2.x, from vLLM and from llama.cpp, and are matched without regard to case.
The last line that is known decides: what an engine says at its end is nearer to the cause than what it said before.
Pure.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_CHARACTERS = 300
TOLD = "cause: "
"""Begins the last line of a program of ours that cannot work as it is configured; the rest is the sentence."""


@dataclass(frozen=True)
class Cause:
    """One sentence for the user, and whether starting again can help (None: unknown)."""

    sentence: str
    retry: bool | None


API_SERVERS_REFUSED = (
    "The engine does not take several API servers (--api-server-count). Set the runtime parameter api_server_count "
    "to 1."
)

# What was seen (any of the patterns), what to tell the user, whether to start again.
TABLE: tuple[tuple[tuple[str, ...], str, bool | None], ...] = (
    (
        (
            r"could not find a profile that is currently runnable",
            r"detected 0 compatible profile",
            r"not runnable due to low free gpu memory",
        ),
        "No model profile runs on the free GPUs here: another process holds them, or they are too small or few. "
        "See nvidia-smi and the profiles in the log; choose another profile or a larger resource bundle.",
        False,
    ),
    (
        (
            r"\bno gpus? (were )?found",
            r"forget.{0,20}--runtime=nvidia",
            r"no cuda gpus are available",
            r"failed to infer device type",
        ),
        "No GPU is visible to the engine. Run the container with GPUs (a GPU resource bundle in DataRobot, --gpus all "
        "in Docker).",
        False,
    ),
    (
        (r"unknown profiles? provided",),
        "NIM_MODEL_PROFILE names a profile that this image does not have. Empty it, or take an id from "
        "list-model-profiles.",
        False,
    ),
    (
        (
            r"unsupported value.*NIM_(LOG_LEVEL|JSONL_LOGGING)",
            r"NIM_(LOG_LEVEL|JSONL_LOGGING).*unsupported value",
        ),
        "The image does not accept the value of NIM_LOG_LEVEL or NIM_JSONL_LOGGING. Use INFO, and 0 or 1.",
        False,
    ),
    (
        (r"must hold exactly one \.gguf file",),
        "The fetched folder holds no GGUF file, or several. Let model_artifacts_uri name the one file.",
        False,
    ),
    (
        (
            r"missing huggingface configuration file",
            r"invalid repository id or local directory",
            r"failed to load model",
            r"error loading model",
        ),
        "The model folder or file cannot be loaded: it is incomplete or of another kind (config.json is missing, say). "
        "Check what lies in model-repo or behind NIM_MODEL_NAME.",
        False,
    ),
    (
        (
            r"gatedrepoerror",
            r"(unauthorized|forbidden).{0,60}huggingface",
            r"huggingface.{0,80}(unauthorized|forbidden)",
        ),
        "Hugging Face refused the token: HF_TOKEN is missing, wrong, or has no access to this model.",
        False,
    ),
    (
        (
            r"requires permissions that the user does not have",
            r"manifestdownloaderror",
            r"\b(401|403)\b[ :,-]*(unauthorized|forbidden)",
            r"(unauthorized|forbidden|authentication (failed|error)).{0,80}(ngc|nvcr|nvidia)",
        ),
        "NVIDIA's registry refused the key: NGC_API_KEY is missing, wrong, or has no access to this model.",
        False,
    ),
    (
        (r"payment required", r"\b451\b.{0,40}legal"),
        "NVIDIA's registry refuses this model for this account (no entitlement, or not in this region).",
        False,
    ),
    (
        (
            r"error sending request for url",
            r"failed to (resolve|connect).{0,60}(ngc|nvidia|huggingface)",
            r"(ngc\.nvidia|huggingface\.co).{0,200}(connection refused|timed out|unreachable)",
            r"name or service not known|getaddrinfo|temporary failure in name resolution",
        ),
        "The engine could not reach the registry: the network policy allows no egress, or a name does not resolve. "
        "Allow public egress, or use local weights (see docs/air-gap.md).",
        None,
    ),
    (
        (r"errors? fetching files", r"download failed after"),
        "The download of the model failed. See the log lines before it.",
        True,
    ),
    (
        (r"no space left on device",),
        "The disk is full. Give the cache (NIM_CACHE_PATH) a larger volume.",
        False,
    ),
    (
        (r"read-only file system", r"nginx: \[emerg\]", r"error constructing workspace"),
        "The engine cannot write where it must: the file system is read-only, or a folder is not mounted writable. See "
        "docs/container.md for the folders.",
        False,
    ),
    (
        (r"permission denied", r"os error 13"),
        "The engine may not write or run a file: this user id has no right to it. Check the owner and group of "
        "NIM_CACHE_PATH.",
        False,
    ),
    (
        (r"too many open files",),
        "The limit of open files is too low for this model. Raise nofile (ulimit -n).",
        False,
    ),
    (
        (
            r"cuda out of memory",
            r"outofmemoryerror",
            r"no available memory for the cache blocks",
            r"larger than the maximum number of tokens that can be stored in kv cache",
            r"larger than the available kv cache memory",
            r"free memory on device.{0,80}less than",
        ),
        "The GPU's memory does not suffice. Lower NIM_MAX_MODEL_LEN, choose another profile, or free the GPU.",
        None,
    ),
    (
        (
            r"unrecognized arguments:.*--api[-_]server[-_]count",
            r"(unknown|unrecogni[sz]ed|unsupported|invalid|unexpected).{0,60}\bapi[-_]server[-_]count",
            r"\bapi[-_]server[-_]count\b.{0,60}(cannot|can't|unknown|unrecogni[sz]ed|unsupported|invalid)",
            r"\bapi[-_]server[-_]count\b.{0,60}not (supported|allowed)",
            r"cannot be used with api_server_count",
        ),
        API_SERVERS_REFUSED,
        False,
    ),
    (
        (r"process apiserver_\d+ .{0,40}died",),
        "One of the engine's API servers died, and the engine ended with it. Each takes about 0.6 GB of memory: where "
        "the container's runs out, lower the runtime parameter api_server_count.",
        True,
    ),
    (
        (r"address already in use", r"couldn't bind", r"cannot bind"),
        "A port that the engine needs is taken by another process.",
        True,
    ),
    (
        (r"no module named",),
        "A Python package that the engine needs is missing.",
        False,
    ),
)
KNOWN = tuple(
    (re.compile("|".join(patterns), re.IGNORECASE), Cause(sentence, retry)) for patterns, sentence, retry in TABLE
)


def find_cause(lines: Sequence[str], exit_code: int | None) -> Cause:
    """The cause of a failed engine from its last log lines (oldest first) and its exit code."""
    if known := known_cause(lines):
        return known
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    seen = f" Its last line was: {last[:SHOWN_CHARACTERS]}" if last else ""
    # SIGKILL comes from outside: the kernel's out-of-memory killer, or a person.
    retry = True if exit_code == -signal.SIGKILL else None
    return Cause(f"The engine ended {_ending(exit_code)} and gave no reason that is known here.{seen}", retry)


def known_cause(lines: Sequence[str]) -> Cause | None:
    """The cause that the last line with a known one tells (oldest first); None when no line does."""
    for line in reversed(lines):
        if line.startswith(TOLD):
            return Cause(line.removeprefix(TOLD).strip(), retry=False)
        for pattern, cause in KNOWN:
            if pattern.search(line):
                return cause
    return None


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
