"""Turn a GGUF file into a model folder with bf16 safetensors and a tokenizer, which every engine loads.

    python convert_gguf.py MODEL.gguf OUT_FOLDER      (an interpreter with torch, transformers and gguf)

The weights are dequantised: the folder is larger than the file, and no better.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, out: Path) -> None:
    """Write the model folder; raises whatever transformers raises on a file it cannot read."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    # Marks of the quantised file, which would make save_pretrained refuse or write a quantised model's configuration.
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
