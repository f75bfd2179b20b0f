"""SmolLM2-135M-Instruct as vLLM reads it, out of the GGUF file of the embedded engine: `weights.py FILE.gguf FOLDER`.

By path, under the Python that vLLM is installed for. vLLM's CPU build reads no GGUF itself.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.quantization_config import GgufConfig


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    plain = GgufConfig(dequantize=True)
    AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=plain).save_pretrained(
        folder
    )
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


if __name__ == "__main__":
    main()
