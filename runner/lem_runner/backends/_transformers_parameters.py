"""What the pytorch backend can be set to beside `generate`'s own parameters: loading, devices, quantisation, compiling.

The table is ours, because `from_pretrained` takes anything; names and defaults are the library's wherever it has one.
"""

from __future__ import annotations

from lem_runner.parameters import Parameter

#: What names a folder is written `path:NAME` in a campaign; the runner gets the folder itself.
_FOLDER = "path:NAME in the model folder"
_DTYPES = ("float32", "bfloat16", "float16")

_PLACE = [
    Parameter("device", "str", "auto", "engine", "auto: cuda where there is one", choices=("auto", "cpu", "cuda")),
    Parameter("device_map", "any", None, "engine", "as from_pretrained takes it; needs accelerate"),
    Parameter("max_memory", "dict", None, "engine", "with device_map: by device, as from_pretrained takes it"),
    Parameter("num_threads", "int", None, "engine", "threads of one CPU operator; unset: torch's choice", minimum=1),
    Parameter("tensor_parallel", "int", 1, "engine", "processes that share every layer, one a GPU", minimum=1),
    Parameter("pipeline_parallel", "int", 1, "engine", "processes that share the layers out, one a GPU", minimum=1),
    Parameter(
        "data_parallel",
        "int",
        1,
        "engine",
        "whole replicas of the engine, each with batches of its own; batch_size is that of one of them",
        minimum=1,
    ),
]
_NUMBERS = [
    Parameter(
        "dtype",
        "str",
        "auto",
        "engine",
        "auto: as the weights are stored (float32 for a random model)",
        choices=("auto", *_DTYPES),
    ),
    Parameter("deterministic", "bool", False, "engine", "refuse operators that are not deterministic"),
    Parameter(
        "float32_matmul_precision",
        "str",
        "highest",
        "engine",
        "TF32 is used below highest",
        choices=("highest", "high", "medium"),
    ),
    Parameter(
        "attn_implementation",
        "str",
        None,
        "engine",
        "unset: the library's choice",
        choices=(
            "eager",
            "sdpa",
            "flex_attention",
            "flash_attention_2",
            "flash_attention_3",
            "flash_attention_4",
        ),
    ),
    Parameter(
        "experts_implementation",
        "str",
        None,
        "engine",
        "of a mixture of experts; unset: the library's choice",
        choices=("eager", "batched_mm", "grouped_mm"),
    ),
]
_COMPILE = [
    Parameter("compile", "bool", False, "engine", "torch.compile of the forward pass", "beta"),
    Parameter(
        "compile_mode",
        "str",
        "default",
        "engine",
        "as torch.compile takes it; for inductor",
        "beta",
        choices=("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    ),
    Parameter(
        "compile_backend",
        "str",
        "inductor",
        "engine",
        "inductor needs a C++ compiler",
        "beta",
        choices=("inductor", "aot_eager", "eager", "cudagraphs"),
    ),
    Parameter("compile_dynamic", "bool", None, "engine", "unset: torch finds out", "beta"),
    Parameter("compile_fullgraph", "bool", False, "engine", "refuse what breaks the graph", "beta"),
]
_QUANTIZATION = [
    Parameter("load_in_8bit", "bool", False, "engine", "by bitsandbytes"),
    Parameter("load_in_4bit", "bool", False, "engine", "by bitsandbytes"),
    Parameter("bnb_4bit_quant_type", "str", "nf4", "engine", "with load_in_4bit", choices=("nf4", "fp4")),
    Parameter("bnb_4bit_use_double_quant", "bool", False, "engine", "with load_in_4bit"),
    Parameter(
        "bnb_4bit_compute_dtype",
        "str",
        None,
        "engine",
        "with load_in_4bit; unset: dtype, and bfloat16 where that is auto",
        choices=_DTYPES,
    ),
    Parameter("llm_int8_threshold", "float", 6.0, "engine", "with load_in_8bit: outliers kept in 16 bits", minimum=0),
    Parameter("llm_int8_skip_modules", "list", None, "engine", "with load_in_8bit or load_in_4bit: left as they are"),
    Parameter(
        "quantization_config",
        "dict",
        None,
        "engine",
        "any other method as from_pretrained takes it, with its quant_method; also overrides that of a GPTQ or AWQ "
        "model",
    ),
]
_COMPANIONS = [
    Parameter("adapter", "str", None, "engine", f"a PEFT adapter, LoRA for one: {_FOLDER}"),
    Parameter("merge_adapter", "bool", False, "engine", "fold the adapter into the weights after loading"),
    Parameter("assistant_model", "str", None, "engine", f"drafts tokens for assisted decoding: {_FOLDER}"),
    Parameter(
        "trust_remote_code", "bool", False, "engine", "refused: a model's own code is never run", choices=(False,)
    ),
]

#: In the order of the catalogue.
ENGINE_PARAMETERS = [*_PLACE, *_NUMBERS, *_COMPILE, *_QUANTIZATION, *_COMPANIONS]
