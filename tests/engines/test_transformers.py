"""transformers' `generate` as the pytorch backend runs it, on tiny models and a CPU."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from runner_process import RunnerProcess, make_spec

from lem_runner.protocol import EXIT_ORPHANED, ModelRef, RunSpec, Warmup
from lem_runner.results import AttemptResult, RequestRecord

pytestmark = pytest.mark.engine

LENGTHS = [3, 9, 17, 5, 12, 7, 20, 4]
CEILING_S = 120.0
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
    # A fifth of the vocabulary ends a text, so that natural ends really come.
    "eos_token_id": list(range(10, 60)),
    "pad_token_id": 0,
    # Far larger than a trained model's: no two logits are nearly equal, so that greedy choices do not hang on rounding.
    "initializer_range": 0.5,
}
_numbers = count()


def llama_spec(folder: Path, **changes: Any) -> RunSpec:
    defaults: dict[str, Any] = {
        "backend": "pytorch",
        "model": ModelRef("random", "tiny-llama", config=SHAPE, seed=3),
        "engine": {"dtype": "float32"},
        "lengths": LENGTHS,
        "max_new_tokens": 24,
        "batch_size": 4,
        "warmup": Warmup(kind="none"),
    }
    return make_spec(folder, **{**defaults, **changes})


def run(runner: RunnerProcess, folder: Path, **changes: Any) -> tuple[AttemptResult, list[RequestRecord]]:
    name = f"a{next(_numbers)}"
    event = runner.run(name, llama_spec(folder, **changes), CEILING_S)
    assert event.type == "result", event.data
    return runner.result(name), runner.requests(name)


def refusal(runner: RunnerProcess, folder: Path, **changes: Any) -> dict[str, Any]:
    event = runner.run(f"a{next(_numbers)}", llama_spec(folder, **changes), CEILING_S)
    assert event.type == "error"
    assert event.data["kind"] == "bad_request", event.data
    return event.data


def test_fixed_output_has_exactly_the_asked_tokens(random_llama: RunnerProcess, tmp_path: Path) -> None:
    result, requests = run(random_llama, tmp_path)
    assert [record.tokens_out for record in requests] == [24] * 8
    assert [record.tokens_in for record in requests] == LENGTHS
    assert {record.stop for record in requests} == {"length"}
    assert result.windows[0].tokens_out == 24 * 8


def test_natural_output_ends_at_the_end_token_of_each_request(random_llama: RunnerProcess, tmp_path: Path) -> None:
    _, natural = run(random_llama, tmp_path, output="natural", sampling={"temperature": 1.0})
    ended = [record for record in natural if record.stop == "eos"]
    assert ended
    assert len({record.tokens_out for record in ended}) > 1
    for record in natural:
        assert record.token_ns is not None
        assert len(record.token_ns) == record.tokens_out
        assert record.tokens_out <= 24
        assert (record.stop == "length") <= (record.tokens_out == 24)


@pytest.mark.parametrize("output", ["fixed", "natural"])
def test_greedy_float32_gives_the_same_tokens_in_batches_and_alone(
    random_llama: RunnerProcess, tmp_path: Path, output: str
) -> None:
    _, alone = run(random_llama, tmp_path, output=output, batch_size=1)
    _, together = run(random_llama, tmp_path, output=output, batch_size=8)
    _, by_length = run(random_llama, tmp_path, output=output, batch_size=4, batching="dynamic")
    expected = {record.prompt_sha256: (record.output_sha256, record.tokens_out, record.stop) for record in alone}
    assert len({sha256 for sha256, _, _ in expected.values()}) > 1
    for records in (together, by_length):
        found = {record.prompt_sha256: (record.output_sha256, record.tokens_out, record.stop) for record in records}
        assert found == expected


def test_token_times_rise_from_first_to_end_inside_the_window(random_llama: RunnerProcess, tmp_path: Path) -> None:
    result, requests = run(random_llama, tmp_path)
    (window,) = result.windows
    for record in requests:
        assert record.token_ns is not None
        assert record.token_ns == sorted(record.token_ns)
        assert record.t_first_ns == record.token_ns[0]
        assert record.t_end_ns == record.token_ns[-1]
        assert window.t_begin_ns <= record.t_submit_ns < record.t_first_ns < record.t_end_ns <= window.t_end_ns


def test_seeds_reproduce_and_differ(random_llama: RunnerProcess, tmp_path: Path) -> None:
    outputs = [
        [record.output_sha256 for record in run(random_llama, tmp_path, seed=seed, sampling={"top_p": 0.9})[1]]
        for seed in (5, 5, 6)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_greedy_is_what_an_empty_sampling_and_temperature_0_mean(random_llama: RunnerProcess, tmp_path: Path) -> None:
    first, greedy = run(random_llama, tmp_path)
    second, cold = run(random_llama, tmp_path, sampling={"temperature": 0}, seed=9)
    assert [record.output_sha256 for record in greedy] == [record.output_sha256 for record in cold]
    assert first.effective["generation"]["do_sample"] is False
    assert second.effective["generation"]["do_sample"] is False
    third, _ = run(random_llama, tmp_path, sampling={"temperature": 0.7})
    assert third.effective["generation"]["do_sample"] is True
    assert third.effective["generation"]["temperature"] == 0.7


def test_beams_have_no_token_times(random_llama: RunnerProcess, tmp_path: Path) -> None:
    _, requests = run(random_llama, tmp_path, sampling={"num_beams": 2})
    assert [record.tokens_out for record in requests] == [24] * 8
    assert all(record.token_ns is None and record.t_first_ns is None for record in requests)


def test_effective_configuration_is_read_back(random_llama: RunnerProcess, tmp_path: Path) -> None:
    result, _ = run(random_llama, tmp_path)
    effective = result.effective
    assert effective["dtype"] == "float32"
    assert effective["devices"] == ["cpu"]
    assert effective["prefix_cache"] is False
    told = effective["reported"]
    assert (told["engine"]["device"], told["engine"]["dtype"]) == ("cpu", "float32")
    assert told["sampling"]["do_sample"] is False
    assert effective["attn_implementation"] == "sdpa"
    assert effective["weights_b"] == effective["parameters"] * 4
    # Embedding and LM head, two layers of q, k, v, o, gate, up, down and two norms, and the last norm.
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64
    assert effective["parameters"] == 2 * 256 * 64 + 2 * layer + 64
    assert effective["generation"]["max_new_tokens"] == 24
    assert result.memory["device_used_b"] is None
    assert result.memory["host_peak_rss_b"] >= result.memory["host_rss_b"] > 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"max_new_tokens": 120}, "128 positions"),
        ({"sampling": {"max_new_tokens": 3}}, "the workload sets"),
        ({"sampling": {"top_pp": 0.5}}, "did you mean top_p"),
        ({"sampling": {"top_p": 1.5}}, "at most 1"),
        ({"sampling": {"penalty_alpha": 0.6}}, "model hub"),
    ],
)
def test_what_this_model_cannot_do_is_refused_before_the_window(
    random_llama: RunnerProcess, tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    error = refusal(random_llama, tmp_path, **change)
    assert text in error["message"]
    assert not error["fatal"]


def test_one_engine_served_all_of_the_above(random_llama: RunnerProcess, tmp_path: Path) -> None:
    run(random_llama, tmp_path)
    assert random_llama.types().count("loading") == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"engine": {"load_in_4bit": True}}, "load_in_4bit"),
        ({"engine": {"trust_remote_code": True}}, "trust_remote_code"),
        ({"model": ModelRef("path", "gone", path="/nowhere/gone")}, "/nowhere/gone"),
        ({"model": ModelRef("random", "shape", config={"hidden_size": 8})}, "model_type"),
        ({"model": ModelRef("random", "shape", config={**SHAPE, "vocab_size": 64})}, "vocabulary of 64"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_bad_request(
    new_runner: RunnerProcess, tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    assert text in refusal(new_runner, tmp_path, **change)["message"]


def test_stored_model_loads_with_its_dtype_and_without_its_sampling_defaults(
    new_runner: RunnerProcess, tmp_path: Path, stored_model: Path
) -> None:
    model = ModelRef("path", "tiny", path=str(stored_model))
    engine = {"attn_implementation": "eager", "num_threads": 1, "cache_implementation": "static"}
    result, requests = run(new_runner, tmp_path, model=model, engine=engine)
    assert [record.tokens_out for record in requests] == [24] * 8
    assert result.effective["dtype"] == "bfloat16"
    assert result.effective["attn_implementation"] == "eager"
    assert result.effective["num_threads"] == 1
    assert result.effective["generation"]["cache_implementation"] == "static"
    assert result.effective["generation"]["do_sample"] is False
    assert result.effective["model_generation_ignored"] == {"do_sample": True, "temperature": 0.6}


def test_end_of_stdin_ends_the_runner_while_torch_is_busy(new_runner: RunnerProcess, tmp_path: Path) -> None:
    config = {**SHAPE, "num_hidden_layers": 8, "hidden_size": 256, "max_position_embeddings": 8192}
    model = ModelRef("random", "slow", config=config)
    new_runner.send("run", "a1", llama_spec(tmp_path, model=model, max_new_tokens=8000))
    new_runner.send("go", "a1")
    new_runner.wait_for("window_begin", "a1", CEILING_S)
    begin_s = time.monotonic()
    new_runner.close_stdin()
    assert new_runner.wait() == EXIT_ORPHANED
    assert time.monotonic() - begin_s < 1.0
