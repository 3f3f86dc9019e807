from __future__ import annotations

import pytest

from lemctl.judge.flops import (
    UnknownShapeError,
    decode_bytes_per_step,
    decode_flops,
    parameter_flops,
    prefill_flops,
    read_shape,
    request_flops,
    total_flops,
)
from lemctl.judge.peaks import PEAKS, find_peaks, peak_flops_per_s

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}


def test_llama_31_8b_has_its_published_sizes() -> None:
    shape = read_shape(LLAMA_8B)
    assert shape.layer_parameters == 6_979_321_856
    assert shape.head_parameters == 525_336_576
    assert shape.parameters == pytest.approx(8.03e9, rel=1e-3)


def test_mixtral_has_its_published_total_and_active_sizes() -> None:
    shape = read_shape(MIXTRAL)
    assert shape.parameters == pytest.approx(46.7e9, rel=2e-3)
    assert shape.active_layer_parameters + 2 * shape.head_parameters == pytest.approx(12.9e9, rel=2e-3)


def test_prefill_then_decode_costs_what_one_longer_prefill_costs_but_for_the_heads() -> None:
    shape = read_shape(LLAMA_8B)
    whole = prefill_flops(shape, 100, head_positions=60)
    parts = prefill_flops(shape, 41) + decode_flops(shape, 41, 59)
    assert parts == whole


def test_causal_halving_keeps_the_half_and_the_diagonal() -> None:
    shape = read_shape(LLAMA_8B)
    full = prefill_flops(shape, 512, causal_halving=False)
    halved = prefill_flops(shape, 512)
    square = 4 * 32 * 32 * 128 * 512 * 512
    assert full - halved == square * (512 - 1) // (2 * 512)


def test_a_sliding_window_bounds_attention() -> None:
    config = {**LLAMA_8B, "model_type": "mistral", "sliding_window": 64}
    shape, plain = read_shape(config), read_shape({**config, "sliding_window": None})
    assert prefill_flops(shape, 64) == prefill_flops(plain, 64)
    pairs = sum(min(position, 64) for position in range(1, 301))
    assert prefill_flops(shape, 300) - prefill_flops(plain, 300) == 4 * 32 * 32 * 128 * (pairs - 300 * 301 // 2)
    steps = sum(min(position, 64) for position in range(51, 101))
    assert decode_flops(shape, 50, 50) - decode_flops(plain, 50, 50) == 4 * 32 * 32 * 128 * (
        steps - sum(range(51, 101))
    )


def test_layers_that_alternate_are_counted_by_their_kind() -> None:
    kinds = ["sliding_attention", "full_attention"] * 16
    shape = read_shape({**LLAMA_8B, "model_type": "gemma2", "sliding_window": 64, "layer_types": kinds})
    assert shape.sliding_layers == 16
    with pytest.raises(UnknownShapeError, match="layer_types"):
        read_shape({**LLAMA_8B, "model_type": "gemma2", "sliding_window": 64})


def test_a_request_is_a_prefill_and_one_decode_step_less_than_it_has_tokens() -> None:
    shape = read_shape(LLAMA_8B)
    assert request_flops(shape, 10, 1) == prefill_flops(shape, 10)
    assert request_flops(shape, 10, 4) == prefill_flops(shape, 10) + decode_flops(shape, 10, 3)
    total = total_flops(shape, [(10, 4), (10, 1)])
    assert (total.flops, total.method) == (request_flops(shape, 10, 4) + request_flops(shape, 10, 1), "analytic")
    assert parameter_flops(8_000_000_000, 3).method == "2N"


def test_decode_traffic_is_all_weights_once_and_each_cache() -> None:
    shape = read_shape(LLAMA_8B)
    weights = (6_979_321_856 + 525_336_576) * 2
    cache = 2 * 8 * 128 * 32 * 2
    assert decode_bytes_per_step(shape, 4, 1000.0, 2, 2) == pytest.approx(weights + 4 * 1000 * cache)


def test_a_batch_meets_the_expected_number_of_distinct_experts() -> None:
    shape = read_shape(MIXTRAL)
    one_expert = 3 * 4096 * 14336 * 32
    assert shape.weights_read_per_step(1) == pytest.approx(shape.active_layer_parameters + shape.head_parameters)
    met = 8 * (1 - 0.75**4)
    difference = shape.weights_read_per_step(4) - shape.weights_read_per_step(1)
    assert difference == pytest.approx((met - 2) * one_expert)


@pytest.mark.parametrize("config", [{**LLAMA_8B, "model_type": "mamba"}, {"hidden_size": 8}, {"model_type": "llama"}])
def test_an_architecture_that_is_not_described_is_refused_not_guessed(config: dict[str, object]) -> None:
    with pytest.raises(UnknownShapeError):
        read_shape(config)


def test_peaks_are_dense_and_of_the_precision_used() -> None:
    assert peak_flops_per_s("NVIDIA H100 80GB HBM3", "bfloat16") == pytest.approx(989.4e12)
    assert peak_flops_per_s("NVIDIA H100 80GB HBM3", "torch.float32") == pytest.approx(67e12)
    assert peak_flops_per_s("NVIDIA A100-SXM4-80GB", "fp8") is None
    assert peak_flops_per_s("NVIDIA GeForce RTX 9999", "bf16") is None
    assert find_peaks("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None


def test_every_peak_has_a_source_and_faster_low_precision() -> None:
    for name, peaks in PEAKS.items():
        assert peaks.source, name
        assert peaks.bytes_per_s > 1e11, name
        rates = peaks.flops_per_s
        assert rates.get("fp8", 1e18) > rates["fp16"] > rates.get("fp32", 0), name
