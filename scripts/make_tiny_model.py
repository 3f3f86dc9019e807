"""Make a tiny random Llama with a tokenizer of its own, for tests: real code paths, a millisecond a token, no download.

    python scripts/make_tiny_model.py OUT_FOLDER [TEXT_FILE ...]      (an interpreter with torch and transformers)

1.3 million parameters, a byte-level BPE of 2,048 tokens trained on the texts named, else on this repository's own.
The same texts give the same folder: the weights are seeded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

VOCABULARY = 2048
SPECIAL = ("<unk>", "<s>", "</s>")
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
SEED = 7


def train_tokenizer(texts: list[Path]) -> Any:
    """A byte-level BPE: every text has ids, none is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train([str(text) for text in texts], trainer)
    unknown, start, end = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token=unknown, bos_token=start, eos_token=end, pad_token=end
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(out: Path, texts: list[Path]) -> None:
    """Write the model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(texts)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        dtype="float32",
    )
    LlamaForCausalLM(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    out.chmod(0o755)
    for file in out.iterdir():
        # Engines run under another uid, and safetensors are written 0600.
        file.chmod(0o644)


def own_texts() -> list[Path]:
    """Text that every checkout has."""
    root = Path(__file__).resolve().parents[1]
    return sorted([*root.glob("controller/**/*.py"), *root.glob("runner/**/*.py"), *root.glob("*.md")])


if __name__ == "__main__":
    make_model(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]] or own_texts())
