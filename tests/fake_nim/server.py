"""The fake NIM server process: `python server.py CONFIG.json [args...]`. Test code.

Run by path, with no PYTHONPATH; the arguments after the config are recorded and otherwise ignored. It reads
NIM_SERVER_PORT (8000), NIM_HEALTH_PORT (2.x: a second listener where it differs), NIM_SERVED_MODEL_NAME (a
comma list), NIM_MAX_MODEL_LEN, NIM_LOG_LEVEL, NIM_JSONL_LOGGING and NIM_PASSTHROUGH_ARGS, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # run by path: this folder must be a package, and must not shadow the stdlib
    _here = Path(__file__).resolve().parent
    sys.path[:] = [str(_here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != _here)]

import asyncio
import os
from collections.abc import Callable, Mapping

from fake_nim.app import App
from fake_nim.chat import Completions
from fake_nim.config import FakeNimConfig
from fake_nim.engine import Engine
from fake_nim.process import (
    Journal,
    api_server_count,
    environment_error,
    flags_error,
    folder_error,
    raise_file_limit,
    spawn_grandchildren,
    take_signals,
)
from fake_nim.wire import Connection

HOST = "127.0.0.1"
BACKLOG = 4096


def main(argv: list[str], env: Mapping[str, str]) -> int:
    """Run until a signal or a configured death; the exit code."""
    config = FakeNimConfig.from_json(Path(argv[1]).read_text(encoding="utf-8"))
    take_signals(config.ignore_sigterm)
    problem = environment_error(config.line, env) or folder_error(config.must_write)
    if problem:
        print(problem, file=sys.stderr, flush=True)
        return 1
    raise_file_limit()
    journal = Journal(config.record_dir)
    journal.start(argv, env, spawn_grandchildren(config))
    if problem := flags_error(config, env):
        print(problem, file=sys.stderr, flush=True)
        return 2
    for number in range(config.chatty_lines):
        print(f"INFO loading shard {number:07d} of {config.chatty_lines}: " + "." * 64)
    print("INFO Selected profile: fake", flush=True)
    if (count := api_server_count(config.line, env)) > 1:
        print(f"INFO Started {count} API server processes", flush=True)
    try:
        return asyncio.run(serve(config, env, journal))
    except OSError as error:  # the port is taken
        print(f"ERROR {error}", file=sys.stderr, flush=True)
        return 1


async def serve(config: FakeNimConfig, env: Mapping[str, str], journal: Journal) -> int:
    """Load, then serve for ever; returns only to die before ready."""
    armed = not (config.crash_once and journal.has_had_trouble())
    names = tuple(name.strip() for name in env.get("NIM_SERVED_MODEL_NAME", "fake/model").split(",") if name.strip())
    max_model_len = int(env.get("NIM_MAX_MODEL_LEN") or config.max_model_len)
    engine = Engine(config.max_num_seqs)
    completions = Completions(
        config,
        names,
        max_model_len,
        engine,
        armed=armed,
        on_trouble=journal.remember_trouble,
        die=lambda: os._exit(config.exit_code),
    )
    app = App(config, names, max_model_len, engine, completions)
    server_name = "uvicorn" if config.line == "1.x" else "nginx"
    on_answer = journal.request if config.record_requests else None

    def connection() -> Connection:
        return Connection(app.handle, server_name, on_answer)

    port_list = ports(config.line, env)
    if config.line == "2.x":
        servers = await listen(port_list, connection)
    await asyncio.sleep(config.start_delay_sec)
    while config.load_until and not Path(config.load_until).exists():
        await asyncio.sleep(0.05)
    if config.die_before_ready and armed:
        journal.remember_trouble()
        print(*config.last_lines, sep="\n", file=sys.stderr, flush=True)
        return config.exit_code
    if config.never_ready:
        await asyncio.get_running_loop().create_future()
    app.ready = True
    if config.line == "1.x":
        servers = await listen(port_list, connection)
    print(f"INFO Application startup complete. Uvicorn running on http://{HOST}:{port_list[0]}", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))
    return 0


def ports(line: str, env: Mapping[str, str]) -> list[int]:
    """The ports to listen on, the server's first. 1.x knows no health port of its own."""
    server = int(env.get("NIM_SERVER_PORT") or 8000)
    health = int(env.get("NIM_HEALTH_PORT") or server)
    return [server] if line == "1.x" or health == server else [server, health]


async def listen(port_list: list[int], connection: Callable[[], Connection]) -> list[asyncio.AbstractServer]:
    loop = asyncio.get_running_loop()
    return [await loop.create_server(connection, HOST, port, backlog=BACKLOG) for port in port_list]


if __name__ == "__main__":
    sys.exit(main(sys.argv, os.environ))
