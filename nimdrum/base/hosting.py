"""How DRUM runs this process: everything that is taken from the environment and the command line of DRUM itself."""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nimdrum.base.own import model_dir_of
from nimdrum.base.releases import DRUM, Release, installed, release_of

LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = "localhost,127.0.0.1,::1"
NETWORK = frozenset(
    "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE".split()
)
"""How to reach others from here: proxies and certificates."""
PLATFORM_VARIABLES = ("DATAROBOT_ENDPOINT", "DATAROBOT_API_TOKEN", "MLOPS_DEPLOYMENT_ID")
"""What DataRobot tells a deployment's container about itself, a token among it."""
DEFAULT_WORKER_TIMEOUT_SEC = 600  # DRUM's default for DRUM_CLIENT_REQUEST_TIMEOUT
OLD_WORKER_TIMEOUT_SEC = 120
BECOMES_GUNICORN: Release = (1, 17, 19)
"""The release from which on DRUM's process becomes gunicorn's master. Before, it starts it, and its end is not told."""
LONGEST_WORKER_TIMEOUT_SEC = 3600


@dataclass(frozen=True)
class Hosting:
    """Facts about the DRUM process that loaded the hooks."""

    code_dir: Path
    """The user's model folder, which may not be the one that DRUM was given (`base.own`)."""
    server: bool
    """True in `drum server`, False in `drum score` and when the hooks are used from a script."""
    gunicorn_master: int | None
    """Process id of the gunicorn master, which replaces a worker that dies; None without gunicorn, 0 if it is gone."""
    error_server: bool
    """DRUM keeps answering 513 after a failed start instead of ending."""
    target_column: str
    request_timeout_sec: float | None
    """After this long DRUM kills a worker that is busy with one request; None where nothing is killed."""
    drum_port: int | None
    image_root: Path
    """Where the container image's files are: / but in tests."""
    state_root: Path
    environ: Mapping[str, str] = field(repr=False)
    values_file: Path | None = None
    """DRUM's --runtime-params-file."""
    page: bool = False
    """The page for people is served."""
    json_logs: bool = False
    gunicorn_starter: int | None = None
    """Process id of the DRUM that started that master and waits for it; None where DRUM became it, 0 if it is gone."""


def read_hosting(
    code_dir: str | Path,
    environ: Mapping[str, str] = os.environ,
    argv: Sequence[str] | None = None,
    find_master: Callable[[], int] = lambda: gunicorn_master(os.getppid()),
    find_starter: Callable[[int], int] = lambda master: gunicorn_starter(master),
    drum: str | None = None,
) -> Hosting:
    """Read the facts. `argv` is DRUM's command line (gunicorn workers have it in sys.argv too),
    `drum` its version."""
    argv = sys.argv if argv is None else argv
    gunicorn = "DRUM_GUNICORN_DRUM_ARGS" in environ
    drum = installed().get(DRUM) if drum is None else drum
    old = drum is not None and release_of(drum) < BECOMES_GUNICORN
    worker_sec = OLD_WORKER_TIMEOUT_SEC if old else DEFAULT_WORKER_TIMEOUT_SEC
    master = find_master() if gunicorn else None
    values = _option(argv, "--runtime-params-file") or environ.get("RUNTIME_PARAMS_FILE")
    return Hosting(
        code_dir=model_dir_of(code_dir),
        server=len(argv) > 1 and argv[1] == "server",
        gunicorn_master=master,
        gunicorn_starter=find_starter(master) if master and old else None,
        error_server="--with-error-server" in argv or _is_on(environ, "WITH_ERROR_SERVER"),
        target_column=_target_column(environ.get("TARGET_NAME", "")),
        request_timeout_sec=_worker_timeout(worker_sec) if gunicorn else None,
        drum_port=_port(_option(argv, "--address") or environ.get("ADDRESS", "")),
        image_root=Path(environ.get("NIMDRUM_IMAGE_ROOT", "/")),
        state_root=_state_root(environ),
        environ=dict(environ),
        values_file=Path(values) if values else None,
        page=_is_on(environ, "NIMDRUM_PAGE"),
        json_logs=environ.get("NIMDRUM_LOG_FORMAT", "").strip().lower() == "json",
    )


def is_drum_score(argv: Sequence[str] | None = None) -> bool:
    """Whether this process is the command `drum score`: a person sees it, and it has nothing to do after an error."""
    argv = sys.argv if argv is None else argv
    return len(argv) > 1 and Path(argv[0]).name == "drum" and argv[1] == "score"


def score_output(argv: Sequence[str] | None = None) -> Path | None:
    """The file that `drum score` writes the answers to at its end; None where it prints them, or is another command."""
    argv = sys.argv if argv is None else argv
    output = _option(argv, "--output") if is_drum_score(argv) else None
    return Path(output).absolute() if output else None


def score_input(argv: Sequence[str] | None = None) -> Path | None:
    """The file that `drum score` reads; None in another command."""
    argv = sys.argv if argv is None else argv
    rows = _option(argv, "--input") if is_drum_score(argv) else None
    return Path(rows).absolute() if rows else None


def gunicorn_master(parent: int) -> int:
    """`parent` if it is a gunicorn, else 0: the parent of an orphaned worker is init, which never ends.

    In a container the master may be process 1 itself, so the number alone does not tell.
    """
    try:
        return parent if b"gunicorn" in Path(f"/proc/{parent}/cmdline").read_bytes() else 0
    except OSError:
        return 0


def gunicorn_starter(master: int) -> int:
    """The parent of `master` if it is a DRUM, else 0."""
    try:
        parent = parent_of(master)
        command = Path(f"/proc/{parent}/cmdline").read_bytes()
        return parent if b"drum" in command and b"\0server\0" in command else 0
    except OSError:
        return 0


def parent_of(pid: int) -> int:
    """Raises OSError where the process is gone."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[1])  # the name before it may hold blanks


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() in ("1", "true", "yes")


def _target_column(name: str) -> str:
    """TARGET_NAME without the one pair of double quotes that the platform may put around it."""
    if len(name) >= 2 and name[0] == name[-1] == '"':
        name = name[1:-1]
    return name or "resultText"


def _worker_timeout(default_sec: float) -> float | None:
    from nimdrum.base.settings import drum_reader

    if str(drum_reader("DRUM_GUNICORN_WORKER_CLASS") or "sync").lower() == "gevent":
        return None
    given = drum_reader("DRUM_CLIENT_REQUEST_TIMEOUT")
    try:
        seconds = default_sec if given is None else float(given)
    except (TypeError, ValueError):
        seconds = default_sec
    if not 0 <= seconds <= LONGEST_WORKER_TIMEOUT_SEC:
        seconds = default_sec  # DRUM ignores what is out of bounds
    return seconds or None


def _option(argv: Sequence[str], name: str) -> str | None:
    for i, argument in enumerate(argv):
        if argument == name and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(name + "="):
            return argument[len(name) + 1 :]
    return None


def _port(address: str) -> int | None:
    port = address.rpartition(":")[2]
    return int(port) if port.isdigit() else None


def _state_root(environ: Mapping[str, str]) -> Path:
    if chosen := environ.get("NIMDRUM_STATE_DIR"):
        return Path(chosen).absolute()
    # Not XDG_RUNTIME_DIR: it is deleted when its user logs out, under a server that was to stay.
    return Path(tempfile.gettempdir()) / f"nimdrum-{os.getuid()}"


def child_environment(seen: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of this package: `seen`, and what Python needs. Small on purpose: what is not there
    cannot leak."""
    root = Path(__file__).resolve().parents[2]
    python = {"PATH": os.defpath, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**leaving_loopback_alone(seen), **python}


def leaving_loopback_alone(env: Mapping[str, str]) -> dict[str, str]:
    """`env`, in which a proxy, if there is one, is told so.

    Some programs read one spelling of NO_PROXY, some the other: both get all exceptions.
    """
    if not any(name.lower().endswith("_proxy") for name in env):
        return dict(env)
    exceptions = ",".join(dict.fromkeys(filter(None, (env.get("NO_PROXY"), env.get("no_proxy"), LOOPBACK_HOSTS))))
    return {**env, "NO_PROXY": exceptions, "no_proxy": exceptions}
