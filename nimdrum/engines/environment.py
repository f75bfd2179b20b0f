"""The engine's environment: chosen by allow-list, because DRUM's own holds keys, tokens and Python paths.

Pure: mappings in, mapping out.
"""

import sys
from collections.abc import Mapping
from pathlib import PurePath

from nimdrum.base.hosting import LOOPBACK_HOSTS
from nimdrum.base.secret import SECRET_NAME

NETWORK = frozenset(
    "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE".split()
)
"""How to reach others from here: proxies and certificates."""
NAMES = NETWORK | frozenset(
    "HOME USER LOGNAME SHELL HOSTNAME LANG LANGUAGE TZ TERM TMPDIR PATH LD_LIBRARY_PATH LD_PRELOAD".split()
)
PREFIXES = (
    "LC_",
    "NIM_",  # what the image itself sets, and what its user adds
    *("NVIDIA_", "CUDA_", "NCCL_", "NVSHMEM_", "UCX_", "OMPI_", "OPAL_", "PMIX_"),
    *("VLLM_", "SGLANG_", "SGL_", "TRTLLM_", "TLLM_", "TRT_", "RAY_"),
    *("TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_", "FLASHINFER_", "OUTLINES_", "XGRAMMAR_"),
    *("HF_", "TRANSFORMERS_", "TOKENIZERS_", "XDG_", "OMP_", "MKL_", "OPENBLAS_", "GGML_", "LLAMA_"),
)
NEVER = frozenset(("VLLM_PORT",))  # makes vLLM's workers fight over one port


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of DRUM's environment that the engine may see.

    Keys never pass, whatever their prefix; the launcher adds those that a route needs. `PATH` loses the virtual
    environment that DRUM runs in (the engine has its own Python), and a proxy is told to leave loopback alone.
    """
    env = {
        name: value
        for name, value in environ.items()
        if name not in NEVER and not SECRET_NAME.search(name) and (name in NAMES or name.startswith(PREFIXES))
    }
    if "PATH" in env:
        env["PATH"] = without_venv(env["PATH"], environ.get("VIRTUAL_ENV"))
    if any(name.lower().endswith("_proxy") for name in env):
        # Some programs read one spelling, some the other: both get all exceptions.
        exceptions = ",".join(dict.fromkeys(filter(None, (env.get("NO_PROXY"), env.get("no_proxy"), LOOPBACK_HOSTS))))
        env |= {"NO_PROXY": exceptions, "no_proxy": exceptions}
    return env


def without_venv(path: str, virtual_env: str | None) -> str:
    """`path` without the bin folders of the virtual environment in use."""
    venvs = [venv for venv in (virtual_env, sys.prefix if sys.prefix != sys.base_prefix else None) if venv]
    mine = {PurePath(venv, "bin") for venv in venvs}
    return ":".join(folder for folder in path.split(":") if folder and PurePath(folder) not in mine)
