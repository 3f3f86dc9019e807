"""GPU memory that an experiment needs: weights, KV cache, and a margin, from the model's own configuration.

An upper estimate for the check before a night, deliberately not a model of any engine's allocator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lemctl.campaign.load import in_flight
from lemctl.campaign.prompt_lengths import longest_drawn

MARGIN = 0.20
#: Prompt tokens assumed where the prompts were not counted yet.
ASSUMED_INPUT_LEN = 512

_DTYPE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2, "float8_e4m3fn": 1}
#: The names that model families give to the same figure.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "vocabulary": ("vocab_size",),
}
#: Families whose feed-forward block has two matrices; in the others a gate makes it three.
_UNGATED = frozenset({"gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi", "mpt", "starcoder2"})


@dataclass(frozen=True, slots=True)
class VramNeed:
    """Bytes needed, or None with the reason why they are not known."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    total_bytes: int | None = None
    reason: str | None = None


def vram_needed(spec: Mapping[str, Any], config: Mapping[str, Any] | None, input_len: int | None = None) -> VramNeed:
    """What the experiment `spec` needs with the model configuration `config` (as in `config.json`).

    `input_len` is the longest prompt in tokens where it is known; random prompts and those that are cut or drawn know
    theirs.
    """
    config = config if config is not None else spec["model"]["config"]
    if config is None:
        return VramNeed(reason="the model's configuration is not at hand")
    if isinstance(text := config.get("text_config"), Mapping):
        config = {**config, **text}
    figures = {what: _figure(config, names) for what, names in _NAMES.items()}
    missing = [_NAMES[what][0] for what, value in figures.items() if value is None]
    if missing:
        return VramNeed(reason=f"the model's configuration does not state {', '.join(missing)}")
    layers, hidden, heads, vocabulary = (figures[name] or 0 for name in ("layers", "hidden", "heads", "vocabulary"))
    item_bytes = dtype_bytes(spec["engine"].get("dtype", "auto"), config)
    head_dim = _figure(config, ("head_dim",)) or hidden // max(heads, 1)
    kv_heads = _figure(config, ("num_key_value_heads", "num_kv_heads")) or heads
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    weights = (layers * (attention + _feed_forward(config, hidden)) + embeddings) * item_bytes
    workload = spec["workload"]
    length = (workload["dataset"]["input_len"] or input_len or _longest(workload)) + workload["max_new_tokens"]
    kv = 2 * layers * kv_heads * head_dim * item_bytes * in_flight(workload) * length
    return VramNeed(weights, kv, int((weights + kv) * (1 + MARGIN)))


def _longest(workload: Mapping[str, Any]) -> int:
    """Prompt tokens by what the campaign says of lengths; assumed where it says nothing."""
    lengths = workload.get("lengths") or {}
    if "draw" in lengths:
        return longest_drawn(lengths["draw"], workload["prompts"], workload["seed"])
    return int(lengths.get("truncate") or max(ASSUMED_INPUT_LEN, lengths.get("pad") or 0))


def _figure(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _feed_forward(config: Mapping[str, Any], hidden: int) -> int:
    """Parameters of one layer's feed-forward block, all experts of a mixture counted."""
    matrices = 2 if config.get("model_type") in _UNGATED else 3
    width = _figure(config, ("intermediate_size", "n_inner", "ffn_dim")) or 4 * hidden
    experts = _figure(config, ("num_local_experts", "num_experts", "n_routed_experts"))
    if experts is None:
        return matrices * hidden * width
    expert_width = _figure(config, ("moe_intermediate_size",)) or width
    shared = (_figure(config, ("n_shared_experts",)) or 0) * expert_width
    return matrices * hidden * (experts * expert_width + shared)


def dtype_bytes(dtype: str, config: Mapping[str, Any]) -> int:
    """Of one weight in the precision `dtype`; `auto` is the one that the model is saved in."""
    saved = saved_dtype(config) or "float32"
    return _DTYPE_BYTES.get(str(saved if dtype == "auto" else dtype).removeprefix("torch."), 4)


def saved_dtype(config: Mapping[str, Any]) -> str | None:
    """The precision that a model's configuration states, of itself or of its text model."""
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        if said := part.get("dtype") or part.get("torch_dtype"):
            return str(said)
    return None
