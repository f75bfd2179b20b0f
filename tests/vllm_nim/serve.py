"""What the stand-in's start script runs: `vllm serve` with nginx before it, as NIM 2.x and 3.x have it.

By path, under the Python that vLLM is installed for: `serve.py [nim-serve] [--dry-run] [flags for vLLM...]`. It ends when
one of the two ends, and by SIGTERM, vLLM first.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import IO

HOST = "127.0.0.1"
RELEASE = "3.0.0"
LIFE_SEC = 3000  # nothing of the stand-in outlives this, whatever its test forgot
STOP_SEC = 20.0
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FLAGS = {"0": False, "1": True, "false": False, "true": True}


def main(argv: list[str], env: Mapping[str, str]) -> int:
    jsonl, level = env.get("NIM_JSONL_LOGGING", "0").lower(), env.get("NIM_LOG_LEVEL", "WARNING")
    for name, value, allowed in (("NIM_JSONL_LOGGING", jsonl, tuple(FLAGS)), ("NIM_LOG_LEVEL", level, LEVELS)):
        if value not in allowed:
            print(f"Unsupported value {value!r} for {name}. Supported: {', '.join(allowed)}", file=sys.stderr)
            return 1
    arguments = argv[1:] if argv[:1] == ["nim-serve"] else argv
    dry = "--dry-run" in arguments
    command = vllm_command([flag for flag in arguments if flag != "--dry-run"], env)
    print("Launching vLLM: " + shlex.join(command), flush=True)
    return 0 if dry else serve(command, env, in_json=FLAGS[jsonl])


def vllm_command(arguments: list[str], env: Mapping[str, str]) -> list[str]:
    """The order is NIM's: what is later wins in vLLM, and the caller's flags win over NIM_PASSTHROUGH_ARGS."""
    program = Path(sys.executable).with_name("vllm")
    length = env.get("NIM_MAX_MODEL_LEN")
    return [
        *(str(program), "serve", env["NIM_MODEL_PATH"], "--host", HOST, "--port", backend_port(env)),
        *("--served-model-name", *served_names(env)),
        *("--max-model-len", length if length else "2048"),
        *("--dtype", "float32", "--enforce-eager"),  # any CPU has float32; compiling takes longer than it saves
        *lora_flags(env),
        *shlex.split(env.get("NIM_PASSTHROUGH_ARGS", "")),
        *arguments,
    ]


def lora_flags(env: Mapping[str, str]) -> list[str]:
    """Static LoRA: what lies in NIM_PEFT_SOURCE at the start."""
    if not env.get("NIM_PEFT_SOURCE"):
        return []
    modules = [f"{name}={folder}" for name, folder in adapters(Path(env["NIM_PEFT_SOURCE"])).items()]
    return ["--enable-lora", *(["--lora-modules", *modules] if modules else [])]


def adapters(source: Path) -> dict[str, Path]:
    """The folders of `source` that hold an adapter, by name."""
    return {path.parent.name: path.parent for path in sorted(source.glob("*/adapter_config.json"))}


def watch_adapters(source: Path, every_sec: float, port: str, stopped: threading.Event) -> None:
    """Dynamic LoRA, NIM's watcher: have vLLM load what is new in the folder, by its own route."""
    loaded = set(adapters(source))
    while not stopped.wait(every_sec):
        for name, folder in adapters(source).items():
            if name in loaded:
                continue
            body = json.dumps({"lora_name": name, "lora_path": str(folder)}).encode()
            connection = http.client.HTTPConnection(HOST, int(port), timeout=60)
            try:
                connection.request("POST", "/v1/load_lora_adapter", body, {"Content-Type": "application/json"})
                if connection.getresponse().status == 200:
                    loaded.add(name)
            except OSError:
                continue  # it still loads, or ends
            finally:
                connection.close()


def served_names(env: Mapping[str, str]) -> list[str]:
    names = (env.get("NIM_SERVED_MODEL_NAME") or "smollm2").split(",")
    return [name.strip() for name in names if name.strip()]


def backend_port(env: Mapping[str, str]) -> str:
    return env.get("NIM_BACKEND_PORT") or "8001"


def serve(command: list[str], env: Mapping[str, str], *, in_json: bool) -> int:
    """Run both until one ends or a signal comes; the exit code."""
    signal.alarm(LIFE_SEC)
    config = write_nginx(Path(env.get("NIM_NGINX_DIR") or "/opt/nim/nginx"), env)
    stopped = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    output = subprocess.PIPE if in_json else None
    nginx_command = ["nginx", "-e", "stderr", "-c", str(config), "-g", "daemon off;"]
    nginx = subprocess.Popen(nginx_command, stdout=output, stderr=subprocess.STDOUT)
    backend = subprocess.Popen(command, env=vllm_env(env), stdout=output, stderr=subprocess.STDOUT)
    both = (backend, nginx)
    for child in both:
        if child.stdout:
            threading.Thread(target=pack, args=(child.stdout,), daemon=True).start()
    source, every = env.get("NIM_PEFT_SOURCE"), env.get("NIM_PEFT_REFRESH_INTERVAL")
    if source and every and env.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True":
        watch = (Path(source), float(every), backend_port(env), stopped)
        threading.Thread(target=watch_adapters, args=watch, daemon=True).start()
    while not stopped.wait(0.1):
        for name, child in (("vLLM", backend), ("nginx", nginx)):
            if child.poll() is not None:
                print(f"ERROR {name} ended with {child.returncode}", file=sys.stderr, flush=True)
                end(both)
                return 1
    end(both)
    return 0


def end(children: tuple[subprocess.Popen[bytes], ...]) -> None:
    """In this order, and whatever they think of it."""
    for child in children:
        child.terminate()
        try:
            child.wait(STOP_SEC)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def vllm_env(env: Mapping[str, str]) -> dict[str, str]:
    """What the image sets for its engine. Two small thread pools are quicker here than one that asks every core."""
    defaults = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": env.get("NIM_LOG_LEVEL", "WARNING"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"  # intel-openmp: vLLM's CPU build asks for it
    if openmp.exists():
        defaults["LD_PRELOAD"] = str(openmp)
    return {**defaults, **env, "PATH": f"{Path(sys.executable).parent}:{env.get('PATH', os.defpath)}"}


def write_nginx(folder: Path, env: Mapping[str, str]) -> Path:
    """The proxy's configuration, and the bodies that it answers itself; the path of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    release = {"release": RELEASE, "api": RELEASE}
    names = served_names(env)
    pages = {
        "live": {**health("live"), "status": "live"},
        "ready": {**health("ready"), "status": "ready"},
        "version": release,
        "metadata": {"version": RELEASE, "modelInfo": [{"shortName": n, "modelUrl": "fake"} for n in names]},
    }
    for name, page in pages.items():
        (folder / f"{name}.json").write_text(json.dumps(page), encoding="utf-8")
    server = env.get("NIM_SERVER_PORT") or "8000"
    ports = dict.fromkeys((server, env.get("NIM_HEALTH_PORT") or server))
    text = Path(env["NIM_NGINX_TEMPLATE"]).read_text(encoding="utf-8")
    for name, value in {
        "DIR": str(folder),
        "USER": "user root;" if os.geteuid() == 0 else "",
        "BACKEND_PORT": backend_port(env),
        "LISTEN": " ".join(f"listen {HOST}:{port} backlog=4096;" for port in ports),
        "NOT_READY": json.dumps({**health("not ready"), "status": "not ready"}),
    }.items():
        text = text.replace(f"@{name}@", value)
    config = folder / "nginx.conf"
    config.write_text(text, encoding="utf-8")
    return config


def health(word: str) -> dict[str, str]:
    return {"object": "health.response", "message": f"Service is {word}."}


def pack(stream: IO[bytes]) -> None:
    """Each line as one JSON object, until the stream ends."""
    for line in stream:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record = {"time": now, "level": "INFO", "message": line.decode("utf-8", "replace").rstrip()}
        sys.stdout.write(json.dumps(record) + "\n")  # in one piece: another thread writes too
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
