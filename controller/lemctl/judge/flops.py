"""FLOPs, weight bytes and memory traffic of a decoder-only transformer, from its Hugging Face config.

2 FLOPs per multiply-add. Counted are the matrix products: attention projections (grouped KV heads), score and value
products for the context at hand, MLP (gated or not), active experts and router, LM head. Left out, as
`torch.utils.flop_counter` leaves them out: norms, rotary embedding, softmax, activations, the embedding look-up.
Causal attention: a query at position i (from 0) meets i + 1 keys, so a prompt costs about half of the full square.
`causal_halving=False` gives the full square, which is what dense attention kernels execute and a counter sees.

Other architectures (encoders, state-space layers, latent attention) are refused with `UnknownShapeError`, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lemctl.judge.measured import Flops

FLOPS_PER_MAC = 2
#: Architectures that the formulas describe (Hugging Face `model_type`), and whether their MLP is gated.
_GATED_MLP = {
    "cohere": True,
    "gemma": True,
    "gemma2": True,
    "gemma3_text": True,
    "gpt2": False,
    "gpt_neox": False,
    "gpt_oss": True,
    "granite": True,
    "llama": True,
    "mistral": True,
    "mixtral": True,
    "olmo": True,
    "olmo2": True,
    "olmoe": True,
    "phi": False,
    "phi3": True,
    "qwen2": True,
    "qwen2_moe": True,
    "qwen3": True,
    "qwen3_moe": True,
    "smollm3": True,
    "stablelm": True,
    "starcoder2": False,
}
_SLIDING_UNLESS_TOLD = frozenset({"mistral", "starcoder2", "phi3"})


class UnknownShapeError(ValueError):
    """The config lacks what the count needs or describes another architecture; the message says which key."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in `layers` of the layers: `total` routed, `active` per token, plus `shared` always on."""

    layers: int
    total: int
    active: int
    shared: int
    intermediate: int
    shared_intermediate: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions that FLOPs and bytes follow from. Sizes in elements."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    gated_mlp: bool
    vocabulary: int
    tied_embeddings: bool
    experts: Experts | None = None
    sliding_window: int | None = None
    sliding_layers: int = 0
    """How many layers see only the last `sliding_window` tokens."""

    @property
    def attention_parameters(self) -> int:
        """Query, key, value and output projections of one layer."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def dense_mlp_parameters(self) -> int:
        """The MLP of one layer without experts."""
        return self._mlp_matrices * self.hidden * self.intermediate

    @property
    def _mlp_matrices(self) -> int:
        return 3 if self.gated_mlp else 2

    def _expert_layer_parameters(self, routed: float) -> float:
        experts = self.experts
        if experts is None:
            return 0.0
        routed_elements = routed * experts.intermediate + experts.shared * experts.shared_intermediate
        return self._mlp_matrices * self.hidden * routed_elements + self.hidden * experts.total

    def _layer_parameters(self, routed_experts: float) -> float:
        expert_layers = self.experts.layers if self.experts else 0
        return (
            self.layers * self.attention_parameters
            + (self.layers - expert_layers) * self.dense_mlp_parameters
            + expert_layers * self._expert_layer_parameters(routed_experts)
        )

    @property
    def layer_parameters(self) -> int:
        """All weights of the layers' matrices (norms and biases left out), every expert counted."""
        return round(self._layer_parameters(self.experts.total if self.experts else 0))

    @property
    def active_layer_parameters(self) -> int:
        """The weights of the layers that one token meets."""
        return round(self._layer_parameters(self.experts.active if self.experts else 0))

    @property
    def head_parameters(self) -> int:
        """The LM head, tied or not: its product is computed either way."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """Weights of the model: layers, LM head, and the embedding where it is not the head's (norms left out)."""
        return self.layer_parameters + self.head_parameters * (1 if self.tied_embeddings else 2)

    def weights_read_per_step(self, batch: float) -> float:
        """Weights one decode step over `batch` sequences reads: every matrix once, of the experts those that are met.

        Expected distinct experts of E with k per token and B tokens, drawn evenly: E (1 - (1 - k/E)^B).
        """
        routed = 0.0
        if self.experts:
            share = self.experts.active / self.experts.total
            routed = self.experts.total * (1 - (1 - share) ** batch)
        return self._layer_parameters(routed) + self.head_parameters

    @property
    def kv_elements_per_token_and_layer(self) -> int:
        """Elements that one token of context occupies in the KV cache of one layer."""
        return 2 * self.kv_heads * self.head_dim


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape from a Hugging Face `config.json`. Raises UnknownShapeError where the count would be a guess."""
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = {**config, **text}
    kind = config.get("model_type")
    if kind not in _GATED_MLP:
        raise UnknownShapeError(f"FLOPs of model_type {kind!r} are not described; known: {', '.join(_GATED_MLP)}")
    hidden = _whole(config, "hidden_size", "n_embd")
    heads = _whole(config, "num_attention_heads", "n_head")
    layers = _whole(config, "num_hidden_layers", "n_layer")
    intermediate = _optional(config, "intermediate_size", "n_inner") or 4 * hidden
    return ModelShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_optional(config, "num_key_value_heads") or heads,
        head_dim=_optional(config, "head_dim") or hidden // heads,
        intermediate=intermediate,
        gated_mlp=_GATED_MLP[kind],
        vocabulary=_whole(config, "vocab_size"),
        tied_embeddings=bool(config.get("tie_word_embeddings", kind in {"gpt2", "gemma", "gemma2", "gemma3_text"})),
        experts=_read_experts(config, intermediate),
        sliding_window=_optional(config, "sliding_window"),
        sliding_layers=_sliding_layers(config, layers),
    )


def _sliding_layers(config: Mapping[str, Any], layers: int) -> int:
    if not _optional(config, "sliding_window"):
        return 0
    kinds = config.get("layer_types")
    if isinstance(kinds, list | tuple):
        return sum(kind == "sliding_attention" for kind in kinds)
    if config.get("use_sliding_window") is False:
        return 0
    if config["model_type"] in _SLIDING_UNLESS_TOLD:
        return layers
    raise UnknownShapeError("the model's config has a sliding_window but no layer_types that say where it applies")


def _read_experts(config: Mapping[str, Any], intermediate: int) -> Experts | None:
    total = _optional(config, "num_local_experts", "num_experts", "n_routed_experts")
    if not total or total == 1:
        return None
    layers = _whole(config, "num_hidden_layers", "n_layer")
    dense_first = _optional(config, "first_k_dense_replace") or 0
    dense_listed = len(config.get("mlp_only_layers") or ())
    sparse_step = _optional(config, "decoder_sparse_step") or 1
    routed_size = _optional(config, "moe_intermediate_size") or intermediate
    shared_size = _optional(config, "shared_expert_intermediate_size")
    shared = 1 if shared_size else (_optional(config, "n_shared_experts") or 0)
    return Experts(
        layers=(layers - dense_first - dense_listed) // sparse_step,
        total=total,
        active=_whole(config, "num_experts_per_tok", "experts_per_token"),
        shared=shared,
        intermediate=routed_size,
        shared_intermediate=shared_size or routed_size,
    )


def _optional(config: Mapping[str, Any], *keys: str) -> int | None:
    for key in keys:
        value = config.get(key)
        if type(value) is int and value > 0:
            return value
    return None


def _whole(config: Mapping[str, Any], *keys: str) -> int:
    value = _optional(config, *keys)
    if value is None:
        raise UnknownShapeError(f"the model's config has no whole number under {' or '.join(keys)}")
    return value


def prefill_flops(
    shape: ModelShape, tokens: int, *, causal_halving: bool = True, head_positions: int | None = None
) -> int:
    """FLOPs of one prompt of `tokens` tokens.

    `head_positions`: at how many positions the LM head runs; None is 1, as serving engines do (a training-style forward
    pass runs it at all of them).
    """
    layers = FLOPS_PER_MAC * shape.active_layer_parameters * tokens
    head = FLOPS_PER_MAC * shape.head_parameters * (1 if head_positions is None else head_positions)
    if causal_halving:
        return layers + head + _attention_flops(shape, 0, tokens)
    square = FLOPS_PER_MAC * 2 * shape.layers * shape.heads * shape.head_dim * tokens * tokens
    return layers + head + square


def decode_flops(shape: ModelShape, context: int, tokens: int) -> int:
    """FLOPs of `tokens` decode steps of one sequence whose cache holds `context` tokens before the first of them."""
    per_token = FLOPS_PER_MAC * (shape.active_layer_parameters + shape.head_parameters)
    return tokens * per_token + _attention_flops(shape, context, tokens)


def request_flops(shape: ModelShape, tokens_in: int, tokens_out: int) -> int:
    """FLOPs of one request: the prompt gives the first output token, each further one is a decode step."""
    if tokens_out == 0:
        return prefill_flops(shape, tokens_in)
    return prefill_flops(shape, tokens_in) + decode_flops(shape, tokens_in, tokens_out - 1)


def total_flops(shape: ModelShape, lengths: Iterable[tuple[int, int]]) -> Flops:
    """The analytic count over requests given as (tokens in, tokens out)."""
    return Flops(
        float(sum(request_flops(shape, tokens_in, tokens_out) for tokens_in, tokens_out in lengths)), "analytic"
    )


def parameter_flops(parameters: int, tokens: int) -> Flops:
    """2N per token: what is left where only the parameter count is known. Attention over the context is missing."""
    return Flops(float(FLOPS_PER_MAC * parameters * tokens), "2N")


def decode_bytes_per_step(
    shape: ModelShape, batch: float, mean_context: float, weight_bytes: float, kv_bytes: float
) -> float:
    """Bytes one decode step must read: weights once for the whole batch, each sequence's KV cache.

    `weight_bytes` and `kv_bytes` per element (2 for fp16 and bf16, 1 for fp8, 0.5 for 4-bit weights).
    """
    near = mean_context if shape.sliding_window is None else min(mean_context, shape.sliding_window)
    per_layer = mean_context * (shape.layers - shape.sliding_layers) + near * shape.sliding_layers
    cache = batch * per_layer * shape.kv_elements_per_token_and_layer
    return shape.weights_read_per_step(batch) * weight_bytes + cache * kv_bytes


def _attention_flops(shape: ModelShape, context: int, tokens: int) -> int:
    """Score and value products of `tokens` causal queries after `context` cached tokens, all layers.

    Each query-key pair costs head_dim multiply-adds twice, per head.
    """
    full = _attended_pairs(context, tokens, None)
    near = _attended_pairs(context, tokens, shape.sliding_window)
    pairs = (shape.layers - shape.sliding_layers) * full + shape.sliding_layers * near
    return FLOPS_PER_MAC * 2 * shape.heads * shape.head_dim * pairs


def _attended_pairs(context: int, tokens: int, window: int | None) -> int:
    """Query-key pairs of one head in one layer."""
    first, last = context + 1, context + tokens
    if window is None or last <= window:
        return tokens * (first + last) // 2
    if first > window:
        return tokens * window
    growing = window - context
    return growing * (first + window) // 2 + (tokens - growing) * window
