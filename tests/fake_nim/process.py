"""The edges of the fake's process: signals, bounded life, file limits, grandchildren, records."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from .config import FakeNimConfig
from .wire import Request

LIFE_SEC = 1200  # nothing of the fake outlives this, whatever its test forgot
GRANDCHILD_MARK = "fake_nim grandchild"
_GRANDCHILD = f"# {GRANDCHILD_MARK}\nimport signal\nsignal.alarm({LIFE_SEC})\nwhile True: signal.pause()"
_LEVELS_2X = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LEVELS_1X = ("TRACE", "DEFAULT", *_LEVELS_2X)


def environment_error(line: str, env: Mapping[str, str]) -> str | None:
    """What the start script says of a variable it does not accept, or None. Pure."""
    level = env.get("NIM_LOG_LEVEL")
    levels = _LEVELS_1X if line == "1.x" else _LEVELS_2X
    if level is not None and level not in levels:
        return f"Unsupported value {level!r} for NIM_LOG_LEVEL. Supported: {', '.join(levels)}"
    jsonl = env.get("NIM_JSONL_LOGGING", "0")
    if jsonl not in (("0", "1") if line == "1.x" else ("0", "1", "true", "false", "True", "False")):
        return f"Unsupported value {jsonl!r} for NIM_JSONL_LOGGING. Supported: 0, 1"
    return None


def flags_error(config: FakeNimConfig, env: Mapping[str, str]) -> str | None:
    """What the engine says of its flags where it cannot start with them, or None: the sentences of vLLM 0.32. Pure."""
    flags = [] if config.line == "1.x" else shlex.split(env.get("NIM_PASSTHROUGH_ARGS", ""))
    if config.refuse_flag and (refused := _from_flag(flags, config.refuse_flag)):
        return f"vllm: error: unrecognized arguments: {' '.join(refused)}"
    count = api_server_count(config.line, env)
    if count > 1 and "--headless" in flags:
        return f"ValueError: --api-server-count={count} cannot be used with --headless (no API servers are started in headless mode)."
    if count > 1 and env.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0") not in ("", "0"):
        return "ValueError: VLLM_ALLOW_RUNTIME_LORA_UPDATING cannot be used with api_server_count > 1"
    return None


def api_server_count(line: str, env: Mapping[str, str]) -> int:
    """How many API servers it was told to have. Pure."""
    flags = [] if line == "1.x" else shlex.split(env.get("NIM_PASSTHROUGH_ARGS", ""))
    told = _from_flag(flags, "--api-server-count")
    return int(told[1]) if len(told) > 1 else 1


def _from_flag(flags: list[str], name: str) -> list[str]:
    return flags[flags.index(name) : flags.index(name) + 2] if name in flags else []


def folder_error(folders: tuple[str, ...]) -> str | None:
    """What the start script says of the first folder that it cannot write into, or None. Makes what is missing."""
    for folder in folders:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, "written-by-fake-nim").write_text("here\n", encoding="utf-8")
        except OSError as error:
            return f"{type(error).__name__}: {error}"
    return None


def take_signals(ignore_sigterm: bool) -> None:
    """End promptly and with 0 on TERM and INT (or not at all on TERM), and in any case after LIFE_SEC."""
    signal.alarm(LIFE_SEC)
    signal.signal(signal.SIGINT, _shut_down)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignore_sigterm else _shut_down)


def _shut_down(signum: int, frame: FrameType | None) -> None:
    try:
        os.write(1, b"shutting down\n")
    finally:
        os._exit(0)


def raise_file_limit() -> None:
    """Allow as many open connections as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spawn_grandchildren(config: FakeNimConfig) -> list[int]:
    """Start the sleeping children; their pids. They inherit environment, stdout and stderr, as workers do."""
    before = signal.getsignal(signal.SIGTERM)
    if config.grandchildren_ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited, so there is no moment in which they would die
    try:
        command = [sys.executable, "-I", "-S", "-c", _GRANDCHILD]
        own = config.grandchildren_own_session
        children = [subprocess.Popen(command, start_new_session=own) for _ in range(config.grandchildren)]
        return [child.pid for child in children]
    finally:
        signal.signal(signal.SIGTERM, before)


class Journal:
    """Appends what happened to files in the record folder; without one, does nothing."""

    def __init__(self, record_dir: str | None) -> None:
        self._folder = None if record_dir is None else Path(record_dir)
        self._requests: int | None = None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def start(self, argv: list[str], env: Mapping[str, str], grandchildren: list[int]) -> None:
        """One line of starts.jsonl."""
        pid = os.getpid()
        ids = {"pid": pid, "ppid": os.getppid(), "pgid": os.getpgrp(), "sid": os.getsid(0)}
        self._append("starts.jsonl", {**ids, "argv": argv, "env": dict(env), "grandchildren": grandchildren})

    def request(self, request: Request, status: int | None, complete: bool) -> None:
        """One line of requests.jsonl; status None and complete False: the client left before the answer."""
        try:
            body: Any = json.loads(request.body) if request.body else None
        except ValueError:
            body = request.body.decode("latin-1")
        line = {"method": request.method, "path": request.path, "headers": request.headers, "body": body}
        self._append("requests.jsonl", {**line, "status": status, "complete": complete})

    def has_had_trouble(self) -> bool:
        return self._folder is not None and (self._folder / "trouble").exists()

    def remember_trouble(self) -> None:
        if self._folder is not None:
            (self._folder / "trouble").touch()

    def _append(self, name: str, line: dict[str, Any]) -> None:
        if self._folder is not None:
            with (self._folder / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
