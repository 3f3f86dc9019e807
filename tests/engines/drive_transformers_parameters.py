"""Sets every engine parameter of the pytorch backend, one at a time, and tells what the library's objects hold then.

`python drive_transformers_parameters.py FOLDER` with a stored model: {name: [value, what was reached, or what was
said, what is reached without it]}.
Weights are not read: what `from_pretrained` and `torch.compile` are called with is what reaches them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import peft
import torch
import transformers

from lem_runner.backends import Decoding, pytorch
from lem_runner.backends import _transformers_batching as batching
from lem_runner.backends import _transformers_generation as generation
from lem_runner.backends import _transformers_loading as loading
from lem_runner.backends import _transformers_quantization as quantization
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, check, resolve
from lem_runner.protocol import ModelRef
from parameter_values import taken

#: Where any value of the type will not do.
VALUES: dict[str, Any] = {
    "device_map": "cpu",
    "max_memory": {"cpu": "1GiB"},
    "quantization_config": {"quant_method": "quanto", "weights": "int8"},
    "cache_config": {"nbits": 4},
    "compile_backend": "eager",
    "attn_implementation": "eager",
    "device": "cpu",
    "llm_int8_skip_modules": ["lm_head"],
    "cb_use_cuda_graph": False,
}
#: What has no effect alone.
BESIDE: dict[str, dict[str, Any]] = {
    "max_memory": {"device_map": "cpu"},
    "merge_adapter": {"adapter": "FOLDER"},
    "llm_int8_threshold": {"load_in_8bit": True},
    "llm_int8_skip_modules": {"load_in_8bit": True},
    **{name: {"load_in_4bit": True} for name in
       ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype")},
    **{name: {"compile": True} for name in ("compile_mode", "compile_backend", "compile_dynamic", "compile_fullgraph")},
}  # fmt: skip


def reached(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Every setting that the library's objects hold, by the parameter's name."""
    # With no GPU every setting of `device` would give the CPU.
    with mock.patch.object(torch.cuda, "is_available", return_value=True):
        found = {"device": loading.set_up_torch(settings)}
    found |= {"num_threads": torch.get_num_threads(), "deterministic": torch.are_deterministic_algorithms_enabled()}
    found["float32_matmul_precision"] = torch.get_float32_matmul_precision()
    found |= _loading(settings, folder)
    decoding = Decoding(4, "fixed", {})
    tokens = generation.SpecialTokens(0, 1, (2,))
    found |= vars(generation.decoding_config(decoding, tokens, generation.cache_settings(settings)))
    config = batching._config(SimpleNamespace(device=SimpleNamespace(type="cuda")), settings, 64)
    found |= {f"{batching.PREFIX}{name}": value for name, value in asdict(config).items()}
    return found


def _loading(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    model = mock.MagicMock()
    model.to.return_value = model
    with (
        mock.patch.object(transformers.AutoModelForCausalLM, "from_pretrained", return_value=model) as from_pretrained,
        mock.patch.object(torch, "compile") as compiled,
        mock.patch.object(peft.PeftModel, "from_pretrained", return_value=model) as merged,
        mock.patch.object(quantization, "require"),
        mock.patch.object(loading, "require"),
        mock.patch.object(loading, "_require_compiler"),
        mock.patch.object(loading, "_check_cache"),
    ):
        loading.load_model(ModelRef("path", "tiny", path=str(folder)), settings, "cpu")
        options = dict(from_pretrained.call_args.kwargs)
        adapter = merged.call_args or model.load_adapter.call_args
        loading.load_assistant(settings, "cpu", model)
        assistant = from_pretrained.call_args.args[0] if from_pretrained.call_count > 1 else None
    found = _plain(options)
    if adapter is not None:
        found |= {"adapter": adapter.args[-1], "merge_adapter": merged.called}
    if assistant is not None:
        found["assistant_model"] = str(assistant)
    if compiled.called:
        found |= {"compile": True, **{f"compile_{name}": value for name, value in compiled.call_args.kwargs.items()}}
    return found


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """The options, and what the config objects among them hold."""
    quantized = options.pop("quantization_config", None)
    distributed = options.pop("distributed_config", None)
    if distributed is not None:
        options |= {"tensor_parallel": distributed.tp_size, "pipeline_parallel": distributed.pp_size}
    if quantized is not None:
        options |= {name.removeprefix("_"): value for name, value in vars(quantized).items()}
        options["quantization_config"] = quantized.to_dict()
    return options


def try_one(parameter: Parameter, known: dict[str, Parameter], folder: Path) -> list[Any]:
    """[value, what reached the library, what reaches it without] or, for one that cannot be set, [value, the sentence,
    None]."""
    value = VALUES.get(parameter.name, 1 if parameter.refused else taken(parameter))
    if parameter.name in ("adapter", "assistant_model"):
        value = str(folder)
    beside = {
        name: str(folder) if other == "FOLDER" else other for name, other in BESIDE.get(parameter.name, {}).items()
    }
    if parameter.refused:
        try:
            check(known, "engine", {parameter.name: value})
        except BadRequestError as error:
            return [value, str(error), None]
        return [value, "accepted", None]
    # Before it is set: what a setting does to the process stays.
    unset = _told(parameter.name, value, resolve(known.values(), "engine", beside), folder)
    told = _told(parameter.name, value, resolve(known.values(), "engine", {**beside, parameter.name: value}), folder)
    return [value, told, unset]


def _told(name: str, value: Any, settings: dict[str, Any], folder: Path) -> Any:
    told = reached(settings, folder).get(name, "not reached")
    if name.endswith("dtype"):
        told = str(told).removeprefix("torch.")
    if name == "quantization_config" and isinstance(told, dict):
        told = {key: told[key] for key in value}
    return told


if __name__ == "__main__":
    here = Path(sys.argv[1])
    rows = {parameter.name: parameter for parameter in pytorch.describe() if parameter.group == "engine"}
    print("RESULT " + json.dumps({name: try_one(row, rows, here) for name, row in rows.items()}, default=str))
