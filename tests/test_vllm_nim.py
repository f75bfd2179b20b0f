"""The stand-in of NIM 3 with vLLM in it, as far as it can be seen without vLLM: what it would start, and what it refuses."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_nim.image import build_image
from vllm_nim.serve import write_nginx

from nimdrum.engines.image import find_nim


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return build_image(tmp_path, Path(sys.executable), Path("/weights"))


def run(script: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": "/usr/bin:/bin"}
    return subprocess.run([script, *arguments], env={**base, **env}, capture_output=True, text=True, timeout=60)


def test_it_is_found_as_a_nim_of_the_new_line(tmp_path: Path, script: Path) -> None:
    """By the same files as NVIDIA's own image."""
    image = find_nim(tmp_path)
    assert image is not None
    assert (image.start_script, image.entrypoint, image.line) == (script, None, 2)


def test_the_environment_becomes_vllms_flags(script: Path) -> None:
    """Names, length, port; then NIM_PASSTHROUGH_ARGS with its quotes; then the caller's own, which win."""
    env = {
        "NIM_SERVED_MODEL_NAME": "one, two",
        "NIM_MAX_MODEL_LEN": "77",
        "NIM_BACKEND_PORT": "8123",
        "NIM_PASSTHROUGH_ARGS": """--max-num-seqs 8 --speculative-config '{"n": 1}'""",
    }
    done = run(script, "nim-serve", "--dry-run", "--max-num-seqs", "4", **env)
    flags = shlex.split(done.stdout)
    assert flags[flags.index("serve") + 1] == "/weights"
    assert flags[flags.index("--served-model-name") + 1 : flags.index("--max-model-len") + 2] == [
        *("one", "two", "--max-model-len", "77")
    ]
    assert flags[flags.index("--port") + 1] == "8123"
    assert flags[-6:] == ["--max-num-seqs", "8", "--speculative-config", '{"n": 1}', "--max-num-seqs", "4"]


@pytest.mark.parametrize(
    "env", [{"NIM_JSONL_LOGGING": "maybe"}, {"NIM_LOG_LEVEL": "DEFAULT"}], ids=lambda env: next(iter(env))
)
def test_it_refuses_what_nim_refuses(script: Path, env: dict[str, str]) -> None:
    """With 1 and the name of the variable."""
    done = run(script, "--dry-run", **env)
    assert done.returncode == 1
    assert next(iter(env)) in done.stderr


def test_the_proxy_has_no_blank_left(tmp_path: Path, script: Path) -> None:
    """Every place in nginx's configuration is filled in; a health port of its own is a second one to listen on."""
    template = tmp_path / "opt/nim/etc/nginx.conf.template"
    env = {"NIM_NGINX_TEMPLATE": str(template), "NIM_SERVER_PORT": "8100", "NIM_HEALTH_PORT": "8101"}
    text = write_nginx(tmp_path / "nginx", env).read_text(encoding="utf-8")
    assert "@DIR@" not in text
    assert [name for name in ("USER", "BACKEND_PORT", "LISTEN", "NOT_READY") if f"@{name}@" in text] == []
    assert "listen 127.0.0.1:8100 backlog=4096; listen 127.0.0.1:8101 backlog=4096;" in text
