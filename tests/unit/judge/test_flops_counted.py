"""The analytic FLOPs against those that torch counts in the real model code, on the meta device (no weights)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lemctl.judge.flops import decode_flops, prefill_flops, read_shape

CHECKOUT = Path(__file__).resolve().parents[3]
COUNT = """
import json, sys
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM
for line in sys.stdin:
    case = json.loads(line)
    config = AutoConfig.for_model(**case["config"])
    config._attn_implementation = "eager"
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config).eval()
        prompt = torch.zeros((1, case["tokens"]), dtype=torch.long)
        with torch.no_grad(), FlopCounterMode(display=False) as prefill:
            cache = model(prompt, use_cache=True).past_key_values
        with torch.no_grad(), FlopCounterMode(display=False) as decode:
            model(prompt[:, :1], past_key_values=cache, use_cache=True)
    print(json.dumps([prefill.get_total_flops(), decode.get_total_flops()]), flush=True)
"""
TINY_LLAMA = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 2048,
}
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
GPT2 = {"model_type": "gpt2", "n_embd": 96, "n_layer": 3, "n_head": 4, "vocab_size": 500, "n_positions": 512}
QWEN3 = {**TINY_LLAMA, "model_type": "qwen3", "head_dim": 32}


def engine_python() -> str:
    found = CHECKOUT / ".venv-pytorch" / "bin" / "python"
    named = os.environ.get("LEM_PYTHON_PYTORCH") or (str(found) if found.exists() else None)
    if named is None:
        pytest.skip("no engine interpreter: set LEM_PYTHON_PYTORCH or make .venv-pytorch")
    return named


@pytest.mark.engine
@pytest.mark.parametrize("config", [TINY_LLAMA, QWEN3, GPT2, LLAMA_8B], ids=lambda config: config["model_type"])
def test_analytic_flops_equal_those_counted_in_the_model(config: dict[str, object]) -> None:
    tokens = 57
    done = subprocess.run(
        [engine_python(), "-c", COUNT],
        input=json.dumps({"config": config, "tokens": tokens}) + "\n",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counted_prefill, counted_decode = json.loads(done.stdout.splitlines()[-1])
    shape = read_shape(config)
    # Eager attention computes the full square and the head at every position: so is the analytic count here.
    dense = prefill_flops(shape, tokens, causal_halving=False, head_positions=tokens)
    assert dense == pytest.approx(counted_prefill, rel=0.001)
    assert decode_flops(shape, tokens, 1) == pytest.approx(counted_decode, rel=0.001)
