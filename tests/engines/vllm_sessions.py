"""Runner sessions on a real vLLM, and a small model whose greedy choices hang on no rounding."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from runner_process import RunnerProcess, make_spec

from lem_runner.protocol import ModelRef, RunSpec, Warmup, WorkloadSpec
from lem_runner.results import AttemptResult, RequestRecord

#: vLLM's attention on a CPU reads a cache of 8 bits only with these.
HAS_FP8_CACHE = any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512f", "amx_tile"))
#: Two starts of Python with torch in it, and a busy machine.
CEILING_S = 280.0
LENGTHS = [3, 9, 17, 5, 12, 7, 20, 4]
VOCABULARY = 256
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    # A fifth of the vocabulary ends a text, so that natural ends really come.
    "eos_token_id": list(range(10, 60)),
    "bos_token_id": 1,
    "pad_token_id": 0,
    # Far larger than a trained model's: no two logits are nearly equal, so that greedy choices do not hang on rounding.
    "initializer_range": 0.5,
}
#: Little memory, nothing compiled.
ENGINE: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 8,
    "max_model_len": 256,
    "kv_cache_memory_bytes": 1 << 26,
}
GREEDY = {"temperature": 0.0}
_numbers = count()

#: The model, beside it a LoRA adapter in PEFT's format that changes what the attention asks for, and the model again
#: with weights of 8 bits, one scale a row, as compressed-tensors stores them: activations are quantised as they come.
MAKE_MODEL = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
folder, shape = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.manual_seed(0)
config = AutoConfig.for_model(shape.pop("model_type"), **shape)
model = AutoModelForCausalLM.from_config(config)
model.generation_config.temperature = 0.6
model.generation_config.do_sample = True
model.save_pretrained(folder)
adapter = folder.parent / "adapter"
adapter.mkdir()
rank, width = 8, shape["hidden_size"]
tensors = {}
for layer in range(shape["num_hidden_layers"]):
    name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
    tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width)
    tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank)
save_file(tensors, adapter / "adapter_model.safetensors")
(adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank,
    "target_modules": ["q_proj"], "bias": "none", "task_type": "CAUSAL_LM"}))
small = folder.parent / "int8"
tensors = {}
for name, weight in model.state_dict().items():
    if name.endswith("_proj.weight"):
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        tensors[f"{name}_scale"] = scale
        weight = (weight / scale).round().to(torch.int8)
    tensors[name] = weight
model.generation_config.save_pretrained(small)
save_file(tensors, small / "model.safetensors", metadata={"format": "pt"})
bits = {"num_bits": 8, "type": "int", "symmetric": True}
group = {"targets": ["Linear"], "weights": {**bits, "strategy": "channel", "dynamic": False},
    "input_activations": {**bits, "strategy": "token", "dynamic": True}}
scheme = {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
    "ignore": ["lm_head"], "config_groups": {"group_0": group}}
config = json.loads((folder / "config.json").read_text())
(small / "config.json").write_text(json.dumps({**config, "quantization_config": scheme}))
"""


def make_model(python: str, folder: Path) -> Path:
    """The stored model; beside it its `adapter`, and `int8`: the same model quantised."""
    import json

    command = [python, "-c", MAKE_MODEL, str(folder), json.dumps(SHAPE)]
    subprocess.run(command, check=True, capture_output=True, timeout=CEILING_S)
    return folder


def open_session(folder: Path, python: str) -> RunnerProcess:
    """A session that no test has to hurry for."""
    return RunnerProcess(folder, interpreter=python, lease_limit_s=3600)


def spec_of(folder: Path, model: Path | ModelRef, **changes: Any) -> RunSpec:
    """A greedy run of every prompt; `engine` adds to the small one, `work` changes the workload."""
    ref = model if isinstance(model, ModelRef) else ModelRef("path", "tiny", path=str(model))
    engine, work = changes.pop("engine", {}), changes.pop("work", {})
    defaults: dict[str, Any] = {
        "backend": "vllm",
        "model": ref,
        "engine": {**ENGINE, **engine},
        "sampling": GREEDY,
        "lengths": LENGTHS,
        "max_new_tokens": 24,
        "batch_size": 4,
        "warmup": Warmup(kind="none"),
    }
    spec = make_spec(folder, **{**defaults, **changes})
    workload: WorkloadSpec = replace(spec.workload, **work)
    return replace(spec, workload=workload)


def run(runner: RunnerProcess, spec: RunSpec) -> tuple[AttemptResult, list[RequestRecord]]:
    name = f"a{next(_numbers)}"
    event = runner.run(name, spec, CEILING_S)
    assert event.type == "result", event.data
    return runner.result(name), runner.requests(name)


def error(runner: RunnerProcess, spec: RunSpec) -> dict[str, Any]:
    event = runner.run(f"a{next(_numbers)}", spec, CEILING_S)
    assert event.type == "error", event.data
    return event.data


def outputs(records: list[RequestRecord]) -> dict[str, tuple[str | None, int, str]]:
    """What became of each prompt."""
    return {record.prompt_sha256: (record.output_sha256, record.tokens_out, record.stop) for record in records}


def begun_alike(records: list[RequestRecord], others: list[RequestRecord]) -> float:
    """Share of the prompts whose texts begin with the same token: by chance 1 of 256, of a coarser type most."""
    ids = {record.prompt_sha256: record.output_ids for record in others}
    same = [(record.output_ids or [])[:1] == (ids[record.prompt_sha256] or [])[:1] for record in records]
    return sum(same) / len(same)
