"""Single looks at the machine and at keys. Each may raise OSError or hang; `gather` puts the limits around them."""

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from nimdrum.base.errors import NimdrumError
from nimdrum.base.hosting import Hosting
from nimdrum.base.releases import DRUM
from nimdrum.base.settings import Settings
from nimdrum.engines.config_file import read_engine_config
from nimdrum.engines.nim_env import registry_keys
from nimdrum.engines.preflight import not_writable
from nimdrum.system.ports import port_is_free
from nimdrum.tools.doctor.checks_setup import HOOKS
from nimdrum.tools.doctor.surroundings import Answer, CodeFolder, Folder, Gpu, Key, Packages, Port
from nimdrum.weights.folder import Content, content


def find_keys(settings: Settings, hosting: Hosting) -> tuple[Key, ...]:
    """Without their values. Raises nothing: what is wrong with engine_config.json is the plan's to say."""
    try:
        configured = read_engine_config(hosting.code_dir).env
    except NimdrumError:
        configured = {}
    keys = []
    for name, value in sorted(registry_keys(settings, hosting, configured).items(), reverse=True):
        source = "environment variable"
        if configured.get(name):
            source = "engine_config.json"
        elif name == "NGC_API_KEY" and settings.ngc_api_key:
            source = "runtime parameter"
        keys.append(Key(name, source, _odd(value)))
    return tuple(keys)


def _odd(key: str) -> str:
    if any(character.isspace() or character in "\"'" for character in key):
        return "has blanks or quotes in it"
    return "" if key.isascii() else "has characters that no key has"


ARTIFACTS = (".zip", ".jar", ".java", ".mojo", ".rds")
"""DRUM 1.18.1 takes each for a model of another language (measured)."""
PACKAGES = (DRUM, *"click obstore openai pandas psutil pyyaml requests tqdm urllib3".split())
LOCKS = ("requirements.txt", "../drum-requirements.txt")
"""Beside the hooks in a clone; /opt/drum-requirements.txt in the image."""
SMI_FIELDS = "name,memory.total,memory.used,driver_version,compute_mode"
NIM_FOLDERS = ".cache .config .triton etc generated_configs nginx runtime-cache workspace".split()


def parse_gpus(lines: Sequence[str]) -> tuple[Gpu, ...]:
    """`nvidia-smi --query-gpu=SMI_FIELDS --format=csv,noheader,nounits`; other lines are skipped. Pure."""
    gpus = []
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(SMI_FIELDS.split(",")) and fields[1].isdigit():
            used = int(fields[2]) if fields[2].isdigit() else 0  # [N/A] with MIG
            gpus.append(Gpu(fields[0], int(fields[1]), used, fields[3], fields[4]))
    return tuple(gpus)


def folder(path: Path) -> Folder:
    """Leaves nothing behind: where `path` is missing, it is not made."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    return Folder(
        path=str(path),
        not_writable=not_writable(there) if there.is_dir() else f"{there} is no folder",
        free_bytes=shutil.disk_usage(there).free,
        filled=content(path) in (Content.FETCHED, Content.FILLED),
        noexec=bool(os.statvfs(there).f_flag & os.ST_NOEXEC),
    )


def nim_folders(root: Path) -> tuple[str, ...]:
    """Those of NIM's own folders below `root` that are there and not writable."""
    folders = [root / "opt/nim" / name for name in NIM_FOLDERS]
    return tuple(str(each) for each in folders if each.is_dir() and not os.access(each, os.W_OK | os.X_OK))


def search_code(code_dir: Path, timeout_sec: float, clock: Callable[[], float] = time.monotonic) -> CodeFolder:
    """What DRUM trips over: hooks at any depth, hidden folders included, and artifacts outside of those."""
    hooks: list[str] = []
    artifacts: list[str] = []
    files, deadline = 0, clock() + timeout_sec
    for parent, folders, names in os.walk(code_dir):
        folders.sort()
        relative = Path(parent).relative_to(code_dir)
        hidden = any(part.startswith(".") for part in relative.parts)
        hooks += [str(relative / name) for name in names if name in HOOKS]
        artifacts += [str(relative / n) for n in sorted(names) if not hidden and Path(n).suffix.lower() in ARTIFACTS]
        files += len(names)
        if clock() > deadline:
            return CodeFolder(tuple(hooks), tuple(artifacts), files, False)
    return CodeFolder(tuple(hooks), tuple(artifacts), files, True)


def packages(code_dir: Path) -> Packages:
    """Installed versions, and the locked ones (several where they depend on the Python version)."""
    installed: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    lock = next((path for path in (code_dir / name for name in LOCKS) if path.is_file()), None)
    return Packages(installed, parse_lock(lock.read_text(encoding="utf-8")) if lock else {})


def parse_lock(text: str) -> dict[str, frozenset[str]]:
    """The versions that a requirements file pins. Pure."""
    pinned: dict[str, frozenset[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        pinned[name.lower()] = pinned.get(name.lower(), frozenset()) | {version}
    return pinned


def port(number: int, what: str, can_move: bool = False) -> Port:
    """Whether somebody listens, and who, where the system tells this user."""
    if port_is_free(number):
        return Port(number, what, True, can_move=can_move)
    owner = ""
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == number
        if listens and connection.pid:
            owner = f"by {psutil.Process(connection.pid).name()}, process {connection.pid}"
    return Port(number, what, False, owner, can_move)


def ask(url: str, verify: bool, timeout_sec: float) -> Answer:
    """The status of a GET without a key. What is shown of `url` holds no user name and no query."""
    import requests

    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    try:
        with requests.get(url, verify=verify, timeout=timeout_sec, allow_redirects=False, stream=True) as answer:
            return Answer(shown, answer.status_code)
    except (requests.RequestException, ValueError) as error:  # its text holds the URL as it was set
        return Answer(shown, None, type(error).__name__)
