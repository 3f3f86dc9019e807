"""From a model and engine parameters to a loaded transformers model, and back to what it really is."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter
from lem_runner.protocol import ModelRef

ENGINE_PARAMETERS = [
    Parameter("device", "str", "auto", "engine", "auto: cuda where there is one", choices=("auto", "cpu", "cuda")),
    Parameter("device_map", "any", None, "engine", "as from_pretrained takes it; needs accelerate"),
    Parameter(
        "dtype",
        "str",
        "auto",
        "engine",
        "auto: as the weights are stored (float32 for a random model)",
        choices=("auto", "float32", "bfloat16", "float16"),
    ),
    Parameter(
        "attn_implementation",
        "str",
        None,
        "engine",
        "unset: the library's choice",
        choices=("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"),
    ),
    Parameter("num_threads", "int", None, "engine", "threads of one CPU operator; unset: torch's choice", minimum=1),
    Parameter("deterministic", "bool", False, "engine", "refuse operators that are not deterministic"),
    Parameter(
        "float32_matmul_precision",
        "str",
        "highest",
        "engine",
        "TF32 is used below highest",
        choices=("highest", "high", "medium"),
    ),
    Parameter("compile", "bool", False, "engine", "torch.compile of the forward pass", "beta"),
    Parameter(
        "compile_mode",
        "str",
        "default",
        "engine",
        "as torch.compile takes it",
        "beta",
        choices=("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    ),
    Parameter("load_in_8bit", "bool", False, "engine", "by bitsandbytes, on a GPU"),
    Parameter("load_in_4bit", "bool", False, "engine", "by bitsandbytes, on a GPU"),
    Parameter("bnb_4bit_quant_type", "str", "nf4", "engine", "with load_in_4bit", choices=("nf4", "fp4")),
    Parameter("bnb_4bit_use_double_quant", "bool", False, "engine", "with load_in_4bit"),
    Parameter(
        "trust_remote_code", "bool", False, "engine", "refused: a model's own code is never run", choices=(False,)
    ),
]


def prepare_environment() -> None:
    """Before transformers is imported: no hub, no telemetry, nothing drawn on the log."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def set_up_torch(settings: Mapping[str, Any]) -> str:
    """Process-wide settings; returns the device as torch names it."""
    # Read by cuBLAS when it is first used; needed for deterministic matrix products.
    if settings["deterministic"]:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    if settings["num_threads"] is not None:
        torch.set_num_threads(settings["num_threads"])
    torch.use_deterministic_algorithms(settings["deterministic"])
    torch.set_float32_matmul_precision(settings["float32_matmul_precision"])
    has_cuda = torch.cuda.is_available()
    if settings["device"] == "cuda" and not has_cuda:
        raise BadRequestError("engine parameter 'device': cuda was asked for, and torch sees no GPU here")
    return "cuda" if has_cuda and settings["device"] != "cpu" else "cpu"


def load_model(ref: ModelRef, settings: Mapping[str, Any], device: str) -> Any:
    """The model in evaluation mode on its device."""
    make = _random_model if ref.kind == "random" else _stored_model
    model = make(ref, settings, device)
    model.eval()
    if settings["compile"]:
        import torch

        model.forward = torch.compile(model.forward, mode=settings["compile_mode"])
    return model


def _random_model(ref: ModelRef, settings: Mapping[str, Any], device: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for name in ("load_in_8bit", "load_in_4bit", "device_map"):
        if settings[name]:
            raise BadRequestError(f"engine parameter {name!r}: not for a random model, which has no stored weights")
    fields = dict(ref.config or {})
    model_type = fields.pop("model_type", None)
    if not isinstance(model_type, str):
        raise BadRequestError(f"random model {ref.name!r}: its config has no model_type")
    config = AutoConfig.for_model(model_type, **fields)
    options = _given(settings, "attn_implementation")
    if settings["dtype"] != "auto":
        options["dtype"] = getattr(torch, settings["dtype"])
    torch.manual_seed(ref.seed)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False, **options).to(device)


def _stored_model(ref: ModelRef, settings: Mapping[str, Any], device: str) -> Any:
    from transformers import AutoModelForCausalLM

    folder = Path(ref.path or "")
    if ref.path is None or not (folder / "config.json").is_file():
        raise BadRequestError(f"model {ref.name!r}: {ref.path} holds no config.json; fetch the model first")
    options = _given(settings, "attn_implementation")
    options["dtype"] = settings["dtype"]
    quantization = _quantization(settings, device)
    if quantization is not None:
        options["quantization_config"] = quantization
    if settings["device_map"] is not None:
        _require("accelerate", "device_map")
        options["device_map"] = settings["device_map"]
    elif quantization is not None:
        options["device_map"] = {"": 0}
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    return model if "device_map" in options else model.to(device)


def _quantization(settings: Mapping[str, Any], device: str) -> Any:
    if not (settings["load_in_8bit"] or settings["load_in_4bit"]):
        return None
    name = "load_in_8bit" if settings["load_in_8bit"] else "load_in_4bit"
    if settings["load_in_8bit"] and settings["load_in_4bit"]:
        raise BadRequestError("engine parameters 'load_in_8bit' and 'load_in_4bit' exclude each other")
    if device != "cuda":
        raise BadRequestError(f"engine parameter {name!r}: quantisation by bitsandbytes needs a GPU")
    _require("bitsandbytes", name)
    _require("accelerate", name)
    import torch
    from transformers import BitsAndBytesConfig

    if settings["load_in_8bit"]:
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.bfloat16 if settings["dtype"] == "auto" else getattr(torch, settings["dtype"])
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=compute,
        bnb_4bit_quant_type=settings["bnb_4bit_quant_type"],
        bnb_4bit_use_double_quant=settings["bnb_4bit_use_double_quant"],
    )


def _require(package: str, parameter: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise BadRequestError(f"engine parameter {parameter!r} needs {package}, which is not installed here")


def _given(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if settings[name] is not None}


def told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the engine's parameters that the loaded model and torch tell of themselves."""
    read_back = ("dtype", "attn_implementation", "num_threads", "deterministic", "float32_matmul_precision")
    return {name: facts[name] for name in read_back if name in facts}


def model_facts(model: Any) -> dict[str, Any]:
    """What was really loaded, read back from the model. `dtype` is that of most weights."""
    import torch

    weights_b: Counter[str] = Counter()
    devices: set[str] = set()
    for parameter in model.parameters():
        weights_b[str(parameter.dtype).removeprefix("torch.")] += parameter.numel() * parameter.element_size()
        devices.add(str(parameter.device))
    text = model.config.get_text_config()
    return {
        "architecture": type(model).__name__,
        "dtype": weights_b.most_common(1)[0][0],
        "weights_b_by_dtype": dict(weights_b),
        "weights_b": sum(weights_b.values()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "attn_implementation": getattr(model.config, "_attn_implementation", None),
        "devices": sorted(devices),
        "device_name": torch.cuda.get_device_name() if any("cuda" in name for name in devices) else None,
        "num_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "quantization": str(getattr(model, "quantization_method", None) or "none"),
        "max_position_embeddings": getattr(text, "max_position_embeddings", None),
        "vocab_size": text.vocab_size,
    }
