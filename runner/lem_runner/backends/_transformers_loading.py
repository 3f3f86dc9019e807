"""From a model and engine parameters to a loaded transformers model, and back to what it really is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lem_runner.backends._transformers_quantization import require, weight_quantization
from lem_runner.failures import BadRequestError
from lem_runner.protocol import ModelRef

#: By the name they are imported by.
_ATTENTION_PACKAGES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn.cute",
}
_COMPILERS = ("c++", "g++", "clang++")


def prepare_environment() -> None:
    """Before transformers is imported: no hub, no telemetry, nothing drawn on the log."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Its default is named after the user, and a container's uid need not have a name.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "torchinductor"))


def set_up_torch(settings: Mapping[str, Any]) -> str:
    """Process-wide settings; returns the device as torch names it."""
    # Read by cuBLAS when it is first used; needed for deterministic matrix products.
    if settings["deterministic"]:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    if settings["num_threads"] is not None:
        torch.set_num_threads(settings["num_threads"])
    elif ranks(settings) > 1:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks(settings)))
    torch.use_deterministic_algorithms(settings["deterministic"])
    torch.set_float32_matmul_precision(settings["float32_matmul_precision"])
    has_cuda = torch.cuda.is_available()
    if settings["device"] == "cuda" and not has_cuda:
        raise BadRequestError("engine parameter 'device': cuda was asked for, and torch sees no GPU here")
    return "cuda" if has_cuda and settings["device"] != "cpu" else "cpu"


def load_model(ref: ModelRef, settings: Mapping[str, Any], device: str) -> Any:
    """The model in evaluation mode on its device. What cannot be is refused before the weights are read."""
    _check(settings, device)
    make = _random_model if ref.kind == "random" else _stored_model
    model = make(ref, settings, device)
    if settings["adapter"] is not None:
        model = _with_adapter(model, settings)
    model.eval()
    if settings["compile"]:
        import torch

        mode = settings["compile_mode"] if settings["compile_backend"] == "inductor" else None
        model.forward = torch.compile(
            model.forward,
            mode=mode,
            backend=settings["compile_backend"],
            dynamic=settings["compile_dynamic"],
            fullgraph=settings["compile_fullgraph"],
        )
    return model


def load_assistant(settings: Mapping[str, Any], device: str, model: Any) -> Any:
    """The model that drafts tokens for assisted decoding, on the same device; None where none is asked for."""
    if settings["assistant_model"] is None:
        return None
    from transformers import AutoModelForCausalLM

    folder = _folder(settings, "assistant_model", "config.json")
    assistant = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=model.dtype
    ).to(device)
    assistant.eval()
    theirs, ours = (one.config.get_text_config().vocab_size for one in (assistant, model))
    if theirs != ours:
        raise BadRequestError(
            f"engine parameter 'assistant_model': its vocabulary has {theirs} tokens, the model's {ours}; "
            "they must be of one family"
        )
    return assistant


def ranks(settings: Mapping[str, Any]) -> int:
    """How many processes run one copy of the model."""
    tensor, pipeline = settings["tensor_parallel"], settings["pipeline_parallel"]
    return int(tensor * pipeline)


def check_ranks(settings: Mapping[str, Any]) -> None:
    """Raise `BadRequestError` for what one process alone can do; before any other is started."""
    if ranks(settings) == 1:
        return
    for name in ("device_map", "load_in_8bit", "load_in_4bit", "adapter", "assistant_model", "compile"):
        if settings[name]:
            raise BadRequestError(
                f"engine parameter {name!r} cannot be combined with tensor_parallel or pipeline_parallel"
            )


def _check(settings: Mapping[str, Any], device: str) -> None:
    """Combinations and packages; all of it known before a weight is read."""
    attention = settings["attn_implementation"]
    if attention in _ATTENTION_PACKAGES:
        where = f"engine parameter 'attn_implementation': {attention}"
        require(_ATTENTION_PACKAGES[attention], where)
        if device != "cuda":
            raise BadRequestError(f"{where} needs a GPU")
    if settings["compile"] and settings["compile_backend"] == "inductor":
        _require_compiler("engine parameter 'compile': inductor", "compile_backend aot_eager")
    if settings["device_map"] is not None:
        require("accelerate", "engine parameter 'device_map'")
    elif settings["max_memory"] is not None:
        raise BadRequestError("engine parameter 'max_memory' has no effect without device_map")
    _check_cache(settings, device)
    if settings["adapter"] is not None:
        require("peft", "engine parameter 'adapter'")
        _folder(settings, "adapter", "adapter_config.json")
    elif settings["merge_adapter"]:
        raise BadRequestError("engine parameter 'merge_adapter' has no effect without adapter")
    if settings["assistant_model"] is not None:
        _folder(settings, "assistant_model", "config.json")


def _check_cache(settings: Mapping[str, Any], device: str) -> None:
    kind = settings.get("cache_implementation")
    where = f"engine parameter 'cache_implementation': {kind}"
    if kind == "quantized":
        backend = (settings.get("cache_config") or {}).get("backend", "quanto")
        require({"quanto": "optimum.quanto"}.get(backend, backend), where)
        if backend == "quanto":
            _require_compiler(where, "cache_config with backend hqq")
            _build_quanto_elsewhere()
    elif kind in ("offloaded", "offloaded_static") and device != "cuda":
        raise BadRequestError(f"{where} needs a GPU to offload from")


def _require_compiler(what: str, otherwise: str) -> None:
    if not any(map(shutil.which, _COMPILERS)):
        raise BadRequestError(f"{what} needs a C++ compiler, and none is on the PATH here; {otherwise} needs none")


def _build_quanto_elsewhere() -> None:
    """It compiles its kernels when first used, beside its sources, which an engine's container may not write to."""
    from optimum.quanto.library.extensions import cpp

    cpp.ext.build_directory = str(Path(tempfile.gettempdir()) / "quanto-build")


def _folder(settings: Mapping[str, Any], name: str, file: str) -> Path:
    folder = Path(settings[name])
    if not (folder / file).is_file():
        raise BadRequestError(f"engine parameter {name!r}: {folder} holds no {file}")
    return folder


def _random_model(ref: ModelRef, settings: Mapping[str, Any], device: str) -> Any:
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    for name in ("load_in_8bit", "load_in_4bit", "quantization_config", "device_map"):
        if settings[name]:
            raise BadRequestError(f"engine parameter {name!r}: not for a random model, which has no stored weights")
    fields = dict(ref.config or {})
    model_type = fields.pop("model_type", None)
    if not isinstance(model_type, str):
        raise BadRequestError(f"random model {ref.name!r}: its config has no model_type")
    config = AutoConfig.for_model(model_type, **fields)
    options = _given(settings, "attn_implementation", "experts_implementation")
    if settings["dtype"] != "auto":
        options["dtype"] = getattr(torch, settings["dtype"])
    torch.manual_seed(ref.seed)
    if ranks(settings) > 1:
        # An empty state: every rank draws its own shard. The same seed gives what they hold in common the same weights.
        options["distributed_config"] = _distributed(settings)
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(None, config=config, state_dict={}, **options)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False, **options).to(device)


def _stored_model(ref: ModelRef, settings: Mapping[str, Any], device: str) -> Any:
    folder = Path(ref.path or "")
    if ref.path is None or not (folder / "config.json").is_file():
        raise BadRequestError(f"model {ref.name!r}: {ref.path} holds no config.json; fetch the model first")
    options = _given(settings, "attn_implementation", "experts_implementation", "device_map", "max_memory")
    options["dtype"] = settings["dtype"]
    quantization = weight_quantization(settings, folder, device)
    if quantization is not None:
        options["quantization_config"] = quantization
        options.setdefault("device_map", {"": 0 if device == "cuda" else "cpu"})
    if ranks(settings) > 1:
        options["distributed_config"] = _distributed(settings)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    is_placed = "device_map" in options or "distributed_config" in options
    return model if is_placed else model.to(device)


def _distributed(settings: Mapping[str, Any]) -> Any:
    from transformers.distributed import DistributedConfig

    tensor, pipeline = settings["tensor_parallel"], settings["pipeline_parallel"]
    return DistributedConfig(tp_size=tensor, tp_plan="auto" if tensor > 1 else None, pp_size=pipeline)


def _with_adapter(model: Any, settings: Mapping[str, Any]) -> Any:
    folder = str(settings["adapter"])
    if settings["merge_adapter"]:
        from peft import PeftModel

        return PeftModel.from_pretrained(model, folder).merge_and_unload()
    model.load_adapter(folder)
    return model


def _given(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if settings[name] is not None}


def told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the engine's parameters that the loaded model and torch tell of themselves."""
    read_back = ("dtype", "attn_implementation", "num_threads", "deterministic", "float32_matmul_precision")
    found = {name: facts[name] for name in read_back if name in facts}
    kinds = {name.partition(":")[0] for name in facts.get("devices", ())}
    if facts.get("experts_implementation") is not None:
        found["experts_implementation"] = facts["experts_implementation"]
    return {**found, "device": kinds.pop()} if len(kinds) == 1 else found


def model_facts(model: Any) -> dict[str, Any]:
    """What was really loaded, read back from the model. `dtype` is that of most weights, of quantised ones the one that
    they are unfolded to and computed in; `weights_b_by_dtype` is what they are stored as.

    Of weights that several ranks share out, the whole counts.
    """
    import torch

    weights_b: Counter[str] = Counter()
    devices: set[str] = set()
    for parameter in model.parameters():
        for part in _parts(parameter):
            weights_b[str(part.dtype).removeprefix("torch.")] += part.numel() * part.element_size()
        devices.add(str(parameter.device))
    quantization = _quantization_name(model)
    computing = weights_b.most_common(1)[0][0] if quantization == "none" else str(model.dtype).removeprefix("torch.")
    text = model.config.get_text_config()
    adapter = [parameter.numel() for name, parameter in model.named_parameters() if ".lora_" in name]
    return {
        "architecture": type(model).__name__,
        "dtype": computing,
        "weights_b_by_dtype": dict(weights_b),
        "weights_b": sum(weights_b.values()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "adapter_parameters": sum(adapter),
        "attn_implementation": getattr(model.config, "_attn_implementation", None),
        "experts_implementation": getattr(model.config, "_experts_implementation", None),
        "devices": sorted(devices),
        "device_name": torch.cuda.get_device_name() if any("cuda" in name for name in devices) else None,
        "num_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "quantization": quantization,
        "max_position_embeddings": getattr(text, "max_position_embeddings", None),
        "vocab_size": text.vocab_size,
    }


def _parts(tensor: Any) -> list[Any]:
    """What a tensor is stored as: some quantised ones wrap others and call themselves what they unfold to."""
    if hasattr(tensor, "device_mesh") or not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in _parts(getattr(tensor, name))]


def _quantization_name(model: Any) -> str:
    method = getattr(model, "quantization_method", None)
    return str(getattr(method, "value", method) or "none")
