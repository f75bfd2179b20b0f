"""The program behind the fake tools: `tool_program.py CONFIG.json NAME [arguments...]`. Test code, run by path."""

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

LIFE_SEC = 600  # nothing of the fake outlives this
SHARDS = 2
DATA = 3_000_000
SLEEPER = f"import signal\nsignal.alarm({LIFE_SEC})\nwhile True: signal.pause()  # fake_nim"


def main() -> int:
    signal.alarm(LIFE_SEC)
    fake, name, arguments = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], sys.argv[3:]
    with Path(fake["record"]).open("a") as file:
        call = {"argv": [name, *arguments], "env": dict(os.environ), "pid": os.getpid()}
        file.write(json.dumps(call) + "\n")
    if name == "list-model-profiles":
        print(fake["listing"], flush=True)
    elif fake["writes"]:
        print("INFO fetching files", flush=True)
        if name == "create-model-store":
            write_model(Path(arguments[arguments.index("--model-store") + 1]), fake["cuts"])
        else:
            write_cache(Path(os.environ["NIM_CACHE_PATH"]) / "ngc/hub/models--nim--fake", fake["cuts"])
    for line in fake["lines"]:
        print(line.replace("{key}", os.environ.get("NGC_API_KEY", "")), flush=True)
    if fake["hangs"]:
        subprocess.Popen([sys.executable, "-I", "-S", "-c", SLEEPER], start_new_session=True)
        print("INFO hanging", flush=True)
        while True:
            signal.pause()
    return int(fake["exit_code"])


def write_cache(folder: Path, cut: bool) -> None:
    """A hub's layout: files with their content's name, and a tree of links to them."""
    blobs, tree = folder / "blobs", folder / "snapshots/main"
    write_model(tree, cut)
    blobs.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(tree.iterdir())):
        if not path.is_symlink():
            path.replace(blobs / f"{number:064d}")
            path.symlink_to(f"../../blobs/{number:064d}")
    (folder / "main.lock").touch()


def write_model(folder: Path, cut: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"model-{i + 1:05d}-of-{SHARDS:05d}.safetensors" for i in range(SHARDS)]
    for name in names:
        if (folder / name).exists():
            continue
        header = json.dumps({"weight": {"dtype": "U8", "shape": [DATA], "data_offsets": [0, DATA]}}).encode()
        data = bytes(DATA - 1000 if cut and name == names[-1] else DATA)
        (folder / name).write_bytes(struct.pack("<Q", len(header)) + header + data)
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text("{}")
        index = {"weight_map": {f"layer.{i}": name for i, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    sys.exit(main())
