"""A LoRA adapter made of random numbers, in PEFT's format: what `save_pretrained` writes, without PEFT."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

RANK = 4
STRENGTH = 0.5
"""Strong enough that the model speaks nonsense: nobody can take its answers for those of the weights alone."""


def write_adapter(folder: Path, weights: Path, seed: int) -> None:
    """An adapter for the model in `weights`, on the projection that ends each attention. The same for the same seed."""
    model = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    hidden, random = model["hidden_size"], np.random.default_rng(seed)
    tensors = {}
    for layer in range(model["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{name}.lora_A.weight"] = random.standard_normal((RANK, hidden)).astype("<f4")
        tensors[f"{name}.lora_B.weight"] = STRENGTH * random.standard_normal((hidden, RANK)).astype("<f4")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none"}
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["o_proj"]}), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors))


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """The format: the length of a JSON head, the head with type, shape and place of each tensor, the numbers."""
    head, at = {}, 0
    for name, tensor in tensors.items():
        head[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(tensor.tobytes() for tensor in tensors.values())])
