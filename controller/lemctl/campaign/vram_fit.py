"""Whether a model's weights can lie on a GPU at all: a lower bound, for a refusal that is never wrong. Pure.

Where the least that they take is not known (quantised, offloaded, of unstated precision), nothing is concluded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lem_runner import portable
from lemctl.campaign.vram import MARGIN, VramNeed, dtype_bytes, saved_dtype

#: Engine parameters, in the engines' own names, that store weights smaller than their precision, or elsewhere. Set to
#: anything but nothing, they leave the size open.
_LEAVES_OPEN = (
    "load_in_4bit",
    "load_in_8bit",
    "quantization",
    "quantization_config",
    "quant_config",
    "force_dynamic_quantization",
    "device_map",
    "cpu_offload_gb",
    "offload_group_size",
    "enable_expert_parallel",
)
#: Of vllm and tensorrt: files that hold weights as they are, or none.
_PLAIN_FORMATS = ("auto", "safetensors", "dummy")
_ENGINES_WITH_WEIGHTS = ("pytorch", "vllm", "tensorrt")
_RANKS = ("tensor_parallel", "pipeline_parallel")


def is_plain(backend: str, engine: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether the weights lie on GPUs whole and in the precision that is said, as far as parameters and the model's
    configuration tell."""
    own = portable.translated(backend, "engine", engine)
    return (
        backend in _ENGINES_WITH_WEIGHTS
        and own.get("device") != "cpu"
        and not any(own.get(name) for name in _LEAVES_OPEN)
        and own.get("load_format", "auto") in _PLAIN_FORMATS
        and not any((config or {}).get(name) for name in ("quantization_config", "compression_config"))
    )


def ranks(backend: str, engine: Mapping[str, Any]) -> int:
    """Into how many parts one copy of the weights is divided."""
    own = portable.translated(backend, "engine", engine)
    degrees = (own.get(name, own.get(f"{name}_size")) for name in _RANKS)
    return math.prod(degree for degree in degrees if isinstance(degree, int) and degree > 0)


def weights_at_least_b(
    backend: str, engine: Mapping[str, Any], config: Mapping[str, Any], need: VramNeed, stored_b: int | None
) -> int | None:
    """The least bytes that the weights take on all ranks together; None where it is not known.

    `stored_b` are those of the model's weight files, None for a random model. Families differ in what their
    configuration leaves unsaid, so that of a stored model both the files and the configuration must say so.
    """
    if need.weights_bytes is None:
        return None
    asked = engine.get("dtype", "auto")
    saved_b, item_b = dtype_bytes("auto", config), dtype_bytes(asked, config)
    # vLLM and TensorRT-LLM load what is saved in 32 bits in 16.
    least_b = min(item_b, 2) if asked == "auto" and backend != "pytorch" else item_b
    estimated_b = need.weights_bytes * least_b // item_b
    if stored_b is None:
        # The estimate is from above: gates, experts and embeddings that a family has not are at most half of it.
        return estimated_b // 2
    if saved_dtype(config) is None:
        return None
    return min(estimated_b, stored_b * least_b // saved_b)


def share_b(need: VramNeed, parts: int, replicas: int) -> int | None:
    """Bytes estimated for one GPU, margin included: all divided by the ranks, the cache by the replicas too."""
    if need.weights_bytes is None or need.kv_bytes is None:
        return None
    return int((need.weights_bytes + need.kv_bytes / replicas) / parts * (1 + MARGIN))
