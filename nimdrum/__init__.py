"""DRUM hooks that own an NVIDIA NIM language-model server and drive it at full speed without losing a row.

For hooks of your own (docs/models.md): `complete` and `read_input_data`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["complete", "read_input_data"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Late, because the commands need no pandas; by name, because every room imports this file, and hooks is above all.
    return getattr(importlib.import_module("nimdrum.hooks"), name)
