"""What a container image holds: whether it is a NIM, and of which line. Reads the file system, decides nothing else."""

from dataclasses import dataclass
from pathlib import Path

# Evidence and file names: docs.nvidia.com (1.x and 2.x) and the NIM Operator's image inspection.
ENTRYPOINT = "opt/nvidia/nvidia_entrypoint.sh"
START_SCRIPTS = ("opt/nim/start_server.sh", "opt/nim/start-server.sh")
EVIDENCE_1X = ("opt/nim/llm/.venv", "etc/nim/config/model_manifest.yaml", "opt/nim/start-server.sh")
EVIDENCE_2X = ("opt/nim/etc/nginx.conf.template", "opt/nim/scripts/nginx_env_vars.sh")
# From 2.x an image holds one of vLLM and SGLang. Where NVIDIA puts it no page says: these are the places of Python
# packages, and the one of SGLang's own images.
EVIDENCE_SGLANG = (
    "sgl-workspace/sglang",
    "usr/local/lib/python3*/*-packages/sglang",
    "usr/lib/python3*/*-packages/sglang",
    "opt/*/lib/python3*/site-packages/sglang",
    "opt/nim/*/lib/python3*/site-packages/sglang",
    "opt/nim/*/.venv/lib/python3*/site-packages/sglang",
)


@dataclass(frozen=True)
class NimImage:
    """A NIM image: how it is started, and its line (1 for 1.x, 2 for 2.x and later)."""

    start_script: Path
    entrypoint: Path | None
    line: int
    evidence: str
    """The file that told the line."""
    backend: str = ""
    """"sglang" where it is seen; empty elsewhere."""


def find_nim(root: Path) -> NimImage | None:
    """The NIM below `root`, or None where there is no start script."""
    script = next((root / name for name in START_SCRIPTS if (root / name).is_file()), None)
    if script is None:
        return None
    entrypoint = root / ENTRYPOINT
    has_entrypoint = entrypoint.is_file()
    line, evidence = _line(root, has_entrypoint)
    backend = "sglang" if any(next(root.glob(name), None) for name in EVIDENCE_SGLANG) else ""
    return NimImage(script, entrypoint if has_entrypoint else None, line, evidence, backend)


def _line(root: Path, has_entrypoint: bool) -> tuple[int, str]:
    for line, names in ((2, EVIDENCE_2X), (1, EVIDENCE_1X)):
        for name in names:
            if (root / name).exists():
                return line, f"/{name}"
    if has_entrypoint:
        return 1, f"/{ENTRYPOINT}"
    return 2, f"no /{ENTRYPOINT}"
