"""Fetching as a process of its own: how it is started, what it is told, and the user's own call of it.

A process, because a fetch must not hold up DRUM's (under gevent a thread of ours would), must end at a signal whatever
it is doing, and gives its memory back. Its request comes on standard input: it holds the credential.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from nimdrum.base.errors import WeightsError
from nimdrum.base.hosting import NETWORK, child_environment
from nimdrum.base.log import get_logger
from nimdrum.base.secret import redact
from nimdrum.system.process import LAUNCHER, write_request
from nimdrum.weights.credential import Credential, secrets_of, store_options
from nimdrum.weights.source import parse_uri

STALL_TIMEOUT_SEC = 300.0
STOP_TIMEOUT_SEC = 10.0
CAUSE = "error: "
"""Begins the last line of a fetch that failed; the rest is the sentence for the user."""
PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
NAMES = NETWORK | {"HOME", "LANG"}

log = get_logger("weights")


def command() -> tuple[str, ...]:
    return (sys.executable, "-m", "nimdrum.weights")


def fetch_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the process may see: proxies, certificates, and the variables that the stores' own tools read."""
    return child_environment({n: value for n, value in environ.items() if n in NAMES or n.startswith(PREFIXES)})


def request_json(
    uri: str, target: Path, credential: Credential | None, stall_timeout_sec: float, *, renew: bool = False
) -> str:
    """For the process's standard input. Holds secrets: never write it to a file or a log."""
    return json.dumps(
        {
            "uri": uri,
            "target": str(target),
            "credential": None if credential is None else dict(credential),
            "stall_timeout_sec": stall_timeout_sec,
            "renew": renew,
        }
    )


def fetch(
    uri: str,
    target: str | Path,
    credential: Credential | None = None,
    *,
    stall_timeout_sec: float = STALL_TIMEOUT_SEC,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Fetch the weights at `uri` into the folder `target`, and return it when they are whole and verified.

    For hooks of your own; the runtime parameters model_artifacts_* need no code. `uri` is an object or a folder:
    `s3://bucket/path?region=...&endpoint=...`, `gs://...`, `az://container/path`, `https://...` or `file:///...`.
    `credential` is what DRUM gives for a credential of type s3, gcp, azure or azure_service_principal.

    Returns at once when the same URI was fetched before, without asking the store. Waits while another process or
    container fetches into the same folder. Goes on where a killed fetch stopped. Runs in a child process that ends
    with this one; progress goes to the log. Raises SettingsError for a URI or credential that cannot be used, and
    WeightsError with one sentence when the weights cannot be had, also when no byte comes for `stall_timeout_sec`.
    """
    target = Path(target).absolute()
    store_options(parse_uri(uri), credential, environ)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=fetch_environment(environ),
        cwd="/",
    )
    try:
        write_request(process, request_json(uri, target, credential, stall_timeout_sec))
        cause = _follow(process.stdout, secrets_of(credential)) if process.stdout else ""
        code = process.wait()
    finally:
        _end(process)
    if code != 0:
        raise WeightsError(cause or f"Fetching {uri.partition('?')[0]} ended with code {code}. See the log.")
    return target


def _follow(stream: IO[bytes], secrets: tuple[str, ...]) -> str:
    """Log the process's lines until its end; the cause that the last one gives, or nothing."""
    cause = ""
    for raw in stream:
        line = redact(raw.decode("utf-8", "replace").rstrip(), secrets)
        if line.startswith(CAUSE):
            cause = line.removeprefix(CAUSE)
        elif line:
            log.info("%s", line)
    return cause


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()
