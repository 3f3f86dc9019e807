from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import plan
from lemctl.campaign.vram import MARGIN, vram_needed

Read = Callable[..., CampaignFile]

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "dtype": "bfloat16",
}  # fmt: skip


def spec(read: Read, small: str, **changes: str) -> dict[str, Any]:
    return plan(read(small, {key.replace("__", "."): value for key, value in changes.items()})).experiments[0].spec


def test_llama_8b_weighs_sixteen_gigabytes_and_its_cache_128_kib_a_token(read: Read, small: str) -> None:
    need = vram_needed(
        spec(
            read,
            small,
            workload__load__batch_size="8",
            workload__random__input_len="900",
            workload__max_new_tokens="124",
        ),
        LLAMA_8B,
    )
    assert need.weights_bytes == pytest.approx(2 * 8.03e9, rel=0.001)
    assert need.kv_bytes == 8 * 1024 * 128 * 1024
    assert need.total_bytes == pytest.approx((need.weights_bytes or 0) + (need.kv_bytes or 0), rel=MARGIN + 0.001)
    assert (need.total_bytes or 0) > (need.weights_bytes or 0) + (need.kv_bytes or 0)


def test_prompts_that_are_cut_are_as_long_as_that_at_most(read: Read, small: str) -> None:
    drawn = "workload: {dataset: random, random: {input_len: 16}, prompts: 64}"
    text = small.replace(drawn, "workload: {dataset: gsm8k, prompts: 64, lengths: {truncate: 16}}")
    cut, exact = (plan(read(body)).experiments[0].spec for body in (text, small))
    assert vram_needed(cut, LLAMA_8B) == vram_needed(exact, LLAMA_8B)


def test_the_engines_precision_counts_not_the_saved_one(read: Read, small: str) -> None:
    half, full = (vram_needed(spec(read, small, engine__dtype=name), LLAMA_8B) for name in ("auto", "float32"))
    assert full.weights_bytes == 2 * (half.weights_bytes or 0)


def test_a_precision_by_its_other_name_weighs_the_same(read: Read, small: str) -> None:
    named = spec(read, small)
    for short, full in (("half", "float16"), ("float", "float32")):
        needs = [vram_needed({**named, "engine": {"dtype": name}}, LLAMA_8B).weights_bytes for name in (short, full)]
        assert needs[0] == needs[1], short


def test_tied_embeddings_are_held_once_and_every_expert_is_held(read: Read, small: str) -> None:
    plain = vram_needed(spec(read, small), LLAMA_8B).weights_bytes or 0
    tied = vram_needed(spec(read, small), {**LLAMA_8B, "tie_word_embeddings": True}).weights_bytes or 0
    mixture = vram_needed(spec(read, small), {**LLAMA_8B, "num_local_experts": 8}).weights_bytes or 0
    assert plain - tied == 2 * 128256 * 4096
    assert mixture - plain == 2 * 32 * 7 * 3 * 4096 * 14336


def test_gpt2_by_its_own_names(read: Read, small: str) -> None:
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257,
              "tie_word_embeddings": True}  # fmt: skip
    assert vram_needed(spec(read, small), config).weights_bytes == pytest.approx(4 * 124e6, rel=0.02)


def test_a_random_model_brings_its_configuration(read: Read, small: str) -> None:
    text = small.replace("model: hf:org/name", f"model: {{random: {LLAMA_8B}}}".replace("'", ""))
    assert vram_needed(plan(read(text)).experiments[0].spec, None).weights_bytes == pytest.approx(2 * 8.03e9, rel=0.001)


def test_what_is_not_known_has_a_reason(read: Read, small: str) -> None:
    assert vram_needed(spec(read, small), None).reason == "the model's configuration is not at hand"
    need = vram_needed(spec(read, small), {"hidden_size": 8, "vocab_size": 9})
    assert need.total_bytes is None
    assert need.reason == "the model's configuration does not state num_hidden_layers, num_attention_heads"
