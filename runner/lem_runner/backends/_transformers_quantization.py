"""Quantised weights: which method is meant, and whether it can run here. Refused before anything is loaded.

bitsandbytes runs on a CPU too and is tested there. GPTQ and AWQ models need packages that build only for a GPU.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lem_runner.failures import BadRequestError


@dataclass(frozen=True)
class Method:
    """What a method of quantisation needs: packages by the names they are imported by, and whether only a GPU will
    do."""

    packages: tuple[str, ...]
    needs_gpu: bool


#: By transformers' `quant_method`. One that is not here is left to the library's own checks.
METHODS: Mapping[str, Method] = {
    "bitsandbytes": Method(("bitsandbytes", "accelerate"), False),
    "gptq": Method(("optimum", "gptqmodel"), True),
    "awq": Method(("gptqmodel", "accelerate"), True),
    "quanto": Method(("optimum.quanto", "accelerate"), False),
    "hqq": Method(("hqq",), False),
    "torchao": Method(("torchao",), False),
    "compressed-tensors": Method(("compressed_tensors",), False),
    "fp8": Method(("accelerate",), True),
    "mxfp4": Method(("kernels",), True),
    "fbgemm_fp8": Method(("fbgemm_gpu",), True),
}


def weight_quantization(settings: Mapping[str, Any], folder: Path, device: str) -> Any:
    """The config object for `from_pretrained`; None where nothing is asked for. `BadRequestError` if it cannot be.

    A model that is stored quantised brings its own config: it is only checked.
    """
    stored = _stored_method(folder)
    if stored is not None:
        _check_method(stored, f"model {folder.name!r} is stored as {stored}", device)
    asked = [name for name in ("load_in_8bit", "load_in_4bit", "quantization_config") if settings[name]]
    if len(asked) > 1:
        raise BadRequestError(f"engine parameters {asked[0]!r} and {asked[1]!r} exclude each other")
    if not asked:
        return None
    if asked[0] == "quantization_config":
        return _given_config(settings["quantization_config"], stored, device)
    if stored is not None:
        raise BadRequestError(f"engine parameter {asked[0]!r}: model {folder.name!r} is quantised already, by {stored}")
    _check_method("bitsandbytes", f"engine parameter {asked[0]!r}", device)
    return _bitsandbytes_config(settings)


def _given_config(given: Mapping[str, Any], stored: str | None, device: str) -> Any:
    from transformers.quantizers.auto import AutoQuantizationConfig

    where = "engine parameter 'quantization_config'"
    method = given.get("quant_method", stored)
    if not isinstance(method, str):
        raise BadRequestError(f"{where} needs a quant_method, gptq or awq for instance")
    _check_method(method, where, device)
    try:
        return AutoQuantizationConfig.from_dict({**given, "quant_method": method})
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"{where}: {error}") from error


def _bitsandbytes_config(settings: Mapping[str, Any]) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    common = {"llm_int8_skip_modules": settings["llm_int8_skip_modules"]}
    if settings["load_in_8bit"]:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=settings["llm_int8_threshold"], **common)
    compute = settings["bnb_4bit_compute_dtype"] or settings["dtype"]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if compute == "auto" else getattr(torch, compute),
        bnb_4bit_quant_type=settings["bnb_4bit_quant_type"],
        bnb_4bit_use_double_quant=settings["bnb_4bit_use_double_quant"],
        **common,
    )


def _stored_method(folder: Path) -> str | None:
    """`quant_method` in the model's own config.json. bitsandbytes models saved by old versions do not name it."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    found = config.get("quantization_config") if isinstance(config, dict) else None
    if not isinstance(found, dict):
        return None
    if found.get("load_in_8bit") or found.get("load_in_4bit"):
        return "bitsandbytes"
    method = found.get("quant_method")
    return method if isinstance(method, str) else None


def _check_method(name: str, where: str, device: str) -> None:
    method = METHODS.get(name)
    if method is None:
        return
    for package in method.packages:
        require(package, f"{where}: {name}")
    if method.needs_gpu and device != "cuda":
        raise BadRequestError(f"{where}: {name} needs a GPU, and the model goes to the {device}")


def require(package: str, what: str) -> None:
    """Raise `BadRequestError` unless `package` can be imported; `what` needs it."""
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of a parent package
        found = None
    if found is None:
        raise BadRequestError(f"{what} needs the package {package}, which is not installed here")
