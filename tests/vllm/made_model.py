"""What the weights of the tests lack, made up: a switch for thinking, and a LoRA adapter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

MARKS = {"<repo_name>": "<think>", "<file_sep>": "</think>"}
"""Tokens of the vocabulary that no text has get another name: vLLM's parsers of reasoning look for these."""
TEMPLATE = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' + ('<think>\nThe user' if enable_thinking else '') }}{% endif %}"""
RANK = 8


def thinking_weights(weights: Path, folder: Path) -> Path:
    """`weights` with a chat template whose enable_thinking begins a thought, which such a model never ends."""
    folder.mkdir()
    for path in weights.iterdir():
        (folder / path.name).symlink_to(path)
    tokenizer = (weights / "tokenizer.json").read_text(encoding="utf-8")
    for token, mark in MARKS.items():
        tokenizer = tokenizer.replace(json.dumps(token), json.dumps(mark))
    for name, text in (("tokenizer.json", tokenizer), ("chat_template.jinja", TEMPLATE)):
        (folder / name).unlink()
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_adapter(weights: Path, folder: Path, seed: int = 0) -> Path:
    """An adapter in the format of PEFT for the value projections of all layers, of random numbers: it talks nonsense."""
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    hidden, heads = config["hidden_size"], config["num_key_value_heads"]
    width = hidden // config["num_attention_heads"] * heads
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.v_proj.lora"
        tensors[f"{name}_A.weight"] = random.standard_normal((RANK, hidden), dtype=np.float32)
        tensors[f"{name}_B.weight"] = random.standard_normal((width, RANK), dtype=np.float32)
    folder.mkdir()
    described = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none"}
    described |= {"target_modules": ["v_proj"], "base_model_name_or_path": "made-up"}
    (folder / "adapter_config.json").write_text(json.dumps(described), encoding="utf-8")
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Eight bytes with the length of a JSON header, the header, the numbers."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.astype("<f4").tobytes())
