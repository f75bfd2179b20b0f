"""NIM's command-line tools, fake: put into an image tree, they print the documented shapes and write small caches."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().with_name("tool_program.py")
NAMES = ("list-model-profiles", "download-to-cache", "create-model-store")
TRT, VLLM, LORA, SMALL, H100 = (letter * 64 for letter in "abcde")

LISTING_1X = f"""\
INFO 2025-01-01 00:00:00.000 info.py:23] Loading manifest - please wait
SYSTEM INFO
- Free GPUs:
  -  [20b2:10de] (0) NVIDIA A100-SXM4-80GB [current utilization: 0%]
- Non-free GPUs:
  -  [20b2:10de] (1) NVIDIA A100-SXM4-80GB [current utilization: 97%]
MODEL PROFILES
- Compatible with system and runnable:
  - {TRT} (tensorrt_llm-a100-bf16-tp1-throughput)
  - {VLLM} (vllm-bf16-tp1)
  - With LoRA support:
    - {LORA} (vllm-bf16-tp1-lora)
- Compilable to TRT-LLM using just-in-time compilation of HF models to TRTLLM engines: <None>
- Incompatible with system:
  - {H100} (tensorrt_llm-h100-fp8-tp2-latency)
"""
LISTING_2X = f"""\
SYSTEM INFO
- Free GPUs:
  -  [2330:10de] (0) NVIDIA H100 80GB HBM3 [current utilization: 0%]
MODEL PROFILES
- Compatible with system and runnable:
  - {VLLM} (vllm-bf16-tp1-pp1)
- Compatible with system but low memory:
  - {SMALL} (vllm-bf16-tp1-pp1-long) - requires 96 GB per GPU, try NIM_MAX_MODEL_LEN=32768
- Incompatible with system:
  - {H100} (vllm-fp8-tp4-pp2)
"""


@dataclasses.dataclass(frozen=True)
class FakeTools:
    """What the tools of one image do."""

    record: str
    """File that gets one JSON line for each call: argv, env, pid."""
    listing: str = LISTING_1X
    lines: tuple[str, ...] = ()
    """Printed before the end; {key} becomes NGC_API_KEY's value."""
    exit_code: int = 0
    writes: bool = True
    cuts: bool = False
    """The last shard is shorter than its header says."""
    hangs: bool = False
    """For ever, with a child process of its own, after the files were written."""


def add_tools(root: Path, fake: FakeTools, *, on_path: bool = True) -> None:
    """Put the tools into the image at `root`; without `on_path` they are actions of 2.x's start script only."""
    nim = root / "opt/nim"
    nim.mkdir(parents=True, exist_ok=True)
    config = nim / "fake_tools.json"
    config.write_text(json.dumps(dataclasses.asdict(fake)))
    for name in NAMES if on_path else ("start_server.sh",):
        folder = root / "usr/local/bin" if on_path else nim
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", "-S", str(PROGRAM), str(config), *([name] if on_path else [])]
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o755)
