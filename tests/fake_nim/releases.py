"""What tells the releases of NIM apart from outside: the files of their images, and how they behave at the edges.

From NVIDIA's documentation and from public reports; nobody has looked into an image of 3.0, so that layout has a start
script and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

ENTRYPOINT = "opt/nvidia/nvidia_entrypoint.sh"
VENV_1X = "opt/nim/llm/.venv"
NGINX = ("opt/nim/etc/nginx.conf.template", "opt/nim/scripts/nginx_env_vars.sh")
OLD_MANIFEST, MANIFEST = "etc/nim/config/model_manifest.yaml", "opt/nim/etc/default/model_manifest.yaml"
SGLANG = "usr/local/lib/python3.12/dist-packages/sglang"


@dataclasses.dataclass(frozen=True)
class Release:
    """One release: `switches` are those of `FakeNimConfig`."""

    line: str
    version: str
    files: tuple[str, ...]  # beside the start script
    switches: Mapping[str, Any] = dataclasses.field(default_factory=dict)


RELEASES: Mapping[str, Release] = {
    # What a test gets that names a line alone: all by which the line can be told.
    "1.x": Release("1.x", "1.8.4", (ENTRYPOINT, VENV_1X, OLD_MANIFEST)),
    "2.x": Release("2.x", "2.0.5", (*NGINX, MANIFEST)),
    # One choice only, and no virtual environment of NVIDIA's yet.
    "1.3": Release("1.x", "1.3.3", (ENTRYPOINT, OLD_MANIFEST), {"refuse_n": "always"}),
    # A start script that stays, and hears SIGTERM only when the server below it has ended.
    "1.8": Release("1.x", "1.8.4", (ENTRYPOINT, VENV_1X, MANIFEST), {"shell_stays": True}),
    "2.0": Release("2.x", "2.0.5", (*NGINX, MANIFEST)),
    # Without a model of its own, with SGLang, whose metrics are off until asked for.
    "2.1": Release("2.x", "2.1.6", (*NGINX, SGLANG), {"metrics": False, "reasoning_field": "reasoning"}),
    "3.0": Release("2.x", "3.0.0", (), {"reasoning_field": "reasoning"}),
}
