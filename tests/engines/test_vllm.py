"""vLLM as the runner drives it, for real, on a CPU: one session with a small stored model serves most tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vllm_sessions
from runner_process import RunnerProcess
from vllm_sessions import LENGTHS, begun_alike, error, open_session, outputs, run, spec_of

from lem_runner.protocol import ModelRef, Warmup

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def small(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vllm_sessions.make_model(vllm_python, tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def session(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerProcess]:
    runner = open_session(tmp_path_factory.mktemp("runner") / "session", vllm_python)
    yield runner
    runner.end()


@pytest.fixture(scope="module")
def serving(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerProcess]:
    """One whose engine takes requests one by one."""
    runner = open_session(tmp_path_factory.mktemp("runner") / "serving", vllm_python)
    yield runner
    runner.end()


@pytest.fixture(scope="module")
def transformers(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerProcess]:
    runner = open_session(tmp_path_factory.mktemp("runner") / "session", engine_python)
    yield runner
    runner.end()


@pytest.fixture
def new_session(vllm_python: str, tmp_path: Path) -> Iterator[RunnerProcess]:
    runner = open_session(tmp_path / "session", vllm_python)
    yield runner
    runner.end()


def test_fixed_output_has_exactly_the_asked_tokens(session: RunnerProcess, small: Path, tmp_path: Path) -> None:
    result, requests = run(session, spec_of(tmp_path, small))
    assert [record.tokens_out for record in requests] == [24] * 8
    assert [record.tokens_in for record in requests] == LENGTHS
    assert {record.stop for record in requests} == {"length"}
    assert result.windows[0].tokens_out == 24 * 8


def test_what_the_engine_reports_is_read_back_from_it(session: RunnerProcess, small: Path, tmp_path: Path) -> None:
    result, _ = run(session, spec_of(tmp_path, small))
    facts, told = result.effective, result.effective["reported"]
    assert (facts["architecture"], facts["dtype"], facts["devices"]) == ("LlamaForCausalLM", "float32", ["cpu"])
    assert told["engine"]["max_num_seqs"] == 8
    assert told["engine"]["enable_prefix_caching"] is facts["prefix_cache"] is False
    assert told["engine"]["max_model_len"] == 256
    # Worked out by the engine, from the bytes that it was given for its cache.
    assert told["engine"]["num_gpu_blocks"] > 8
    assert told["sampling"]["temperature"] == 0.0
    # The engine's own process holds the model: its memory is counted too.
    assert result.memory["host_rss_b"] > 600e6
    assert result.memory["device_used_b"] is None


@pytest.mark.parametrize("work", [{}, {"mode": "closed", "concurrency": 2}], ids=["batches", "requests"])
def test_times_are_the_engines_own_and_lie_inside_the_window(
    session: RunnerProcess, serving: RunnerProcess, small: Path, tmp_path: Path, work: dict[str, Any]
) -> None:
    result, requests = run(serving if work else session, spec_of(tmp_path, small, work=work))
    assert result.effective["served_by"] == ("AsyncLLM" if work else "LLMEngine")
    (window,) = result.windows
    for record in requests:
        assert record.token_ns is not None
        assert len(record.token_ns) == record.tokens_out
        assert record.token_ns == sorted(record.token_ns)
        assert (record.t_first_ns, record.t_end_ns) == (record.token_ns[0], record.token_ns[-1])
        assert record.t_submit_ns < record.t_first_ns < record.t_end_ns
        # Of requests one by one the first and the last ones lie about the window's edges.
        assert work or window.t_begin_ns <= record.t_submit_ns < record.t_end_ns <= window.t_end_ns
        assert record.queue_s is not None
        assert record.prefill_s is not None
        first_s = (record.t_first_ns - record.t_submit_ns) / 1e9
        assert 0 < record.queue_s + record.prefill_s <= first_s
    usage = result.gauges["kv_cache_usage"]
    assert usage is not None
    assert 0 < usage < 1
    assert result.gauges["prefix_cache_hit_rate"] is None


@pytest.mark.parametrize("output", ["fixed", "natural"])
def test_greedy_float32_gives_the_same_tokens_at_every_load_and_as_transformers(
    session: RunnerProcess,
    serving: RunnerProcess,
    transformers: RunnerProcess,
    small: Path,
    tmp_path: Path,
    output: str,
) -> None:
    _, alone = run(session, spec_of(tmp_path, small, output=output, batch_size=1))
    expected = outputs(alone)
    assert len({sha256 for sha256, _, _ in expected.values()}) > 1
    _, together = run(session, spec_of(tmp_path, small, output=output, batch_size=8))
    closed = {"mode": "closed", "concurrency": 2}
    _, served = run(serving, spec_of(tmp_path, small, output=output, work=closed))
    other = spec_of(tmp_path, small, output=output, batch_size=8, backend="pytorch", sampling={})
    object.__setattr__(other, "engine", {"dtype": "float32"})
    _, reference = run(transformers, other)
    for records in (together, served, reference):
        assert outputs(records) == expected
    if output == "natural":
        assert {record.stop for record in alone} >= {"eos"}
        assert len({record.tokens_out for record in alone}) > 1


def test_seeds_reproduce_and_differ(session: RunnerProcess, small: Path, tmp_path: Path) -> None:
    drawn = [
        [record.output_sha256 for record in run(session, spec_of(tmp_path, small, seed=seed, sampling=sampling))[1]]
        for seed, sampling in ((5, {"top_p": 0.9}), (5, {"top_p": 0.9}), (6, {"top_p": 0.9}))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert len(set(drawn[0])) == len(drawn[0])


def test_arrivals_are_served_as_they_come(serving: RunnerProcess, small: Path, tmp_path: Path) -> None:
    work = {"mode": "poisson", "rate_per_s": 20.0}
    _, requests = run(serving, spec_of(tmp_path, small, max_new_tokens=8, work=work))
    assert len(requests) == 8
    assert all(record.t_due_ns is not None and record.t_submit_ns >= record.t_due_ns for record in requests)
    assert {record.stop for record in requests} == {"length"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": {"stop": ["x"]}}, "no tokenizer"),
        ({"sampling": {"tempereture": 1}}, "did you mean temperature"),
        ({"sampling": {"top_p": 1.5}}, "at most 1"),
        ({"sampling": {"top_p": 0}}, "top_p"),
        ({"sampling": {"stop_token_ids": [3]}}, "output: fixed"),
        ({"max_new_tokens": 250}, "256 positions"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_and_the_session_goes_on(
    session: RunnerProcess, small: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    said = error(session, spec_of(tmp_path, small, **changes))
    assert (said["kind"], said["fatal"]) == ("bad_request", False), said
    assert words in said["message"]
    assert session.process.poll() is None


def test_an_engine_for_batches_takes_no_requests_one_by_one(
    session: RunnerProcess, small: Path, tmp_path: Path
) -> None:
    run(session, spec_of(tmp_path, small))
    said = error(session, spec_of(tmp_path, small, work={"mode": "closed", "concurrency": 2}))
    assert (said["kind"], said["fatal"]) == ("bad_request", False)
    assert "loaded for batches" in said["message"]


def test_a_cancel_drops_what_is_in_flight(serving: RunnerProcess, small: Path, tmp_path: Path) -> None:
    work = {"mode": "closed", "concurrency": 4}
    spec = spec_of(tmp_path, small, max_new_tokens=200, window_s=600.0, work=work)
    serving.send("run", "cancelled", spec)
    serving.wait_for("loaded", "cancelled", vllm_sessions.CEILING_S)
    serving.send("go", "cancelled")
    serving.wait_for("window_begin", "cancelled", vllm_sessions.CEILING_S)
    serving.send("cancel", "cancelled")
    serving.wait_cancelled("cancelled")
    _, requests = run(serving, spec_of(tmp_path, small, batch_size=8))
    # Nothing of the cancelled load takes the engine's places: the whole batch began at once.
    assert max(record.queue_s or 0 for record in requests) < 1.0


def test_prefix_hits_are_counted_and_the_adapter_changes_the_text(
    new_session: RunnerProcess, session: RunnerProcess, small: Path, tmp_path: Path
) -> None:
    engine = {"enable_prefix_caching": True, "block_size": 32, "adapter": str(small.parent / "adapter")}
    work = {"lengths": [100], "batch_size": 1, "max_new_tokens": 4, "window_s": 5.0}
    result, requests = run(new_session, spec_of(tmp_path, small, engine=engine, warmup=Warmup("one_batch"), **work))
    # The warm-up served the same prompt, and what it left was thrown away before the window.
    assert requests[0].cached_tokens == 0
    assert {record.cached_tokens for record in requests[1:]} == {96}
    rate = result.gauges["prefix_cache_hit_rate"]
    hits = sum(record.cached_tokens or 0 for record in requests)
    assert rate == pytest.approx(hits / sum(record.tokens_in for record in requests))
    assert result.effective["prefix_cache"] is True
    assert result.effective["reported"]["engine"]["max_lora_rank"] == 16
    _, plain = run(session, spec_of(tmp_path, small, lengths=[100], batch_size=1, max_new_tokens=4))
    assert outputs(plain) != outputs(requests)


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a core for each worker")
def test_two_workers_share_a_model(vllm_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One memory node, so the engine has to be told which core is whose.
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    runner = open_session(tmp_path / "session", vllm_python)
    try:
        shape = ModelRef("random", "tiny-llama", config=vllm_sessions.SHAPE)
        result, requests = run(runner, spec_of(tmp_path, shape, engine={"tensor_parallel_size": 2}))
    finally:
        runner.end()
    assert result.effective["workers"] == 2
    assert result.effective["reported"]["engine"]["tensor_parallel_size"] == 2
    assert {record.tokens_out for record in requests} == {24}


def test_a_random_model_has_dummy_weights_and_ngrams_are_drafted(new_session: RunnerProcess, tmp_path: Path) -> None:
    shape = ModelRef("random", "tiny-llama", config=vllm_sessions.SHAPE, seed=3)
    speculation = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2, "prompt_lookup_min": 1}
    spec = spec_of(tmp_path, shape, engine={"speculative_config": speculation})
    result, requests = run(new_session, spec)
    assert result.effective["reported"]["engine"]["load_format"] == "dummy"
    assert {record.tokens_out for record in requests} == {24}
    assert all(len(record.token_ns or []) == 24 for record in requests)
    assert result.effective["reported"]["engine"]["speculative_config"]["num_speculative_tokens"] == 2
    assert result.gauges["draft_acceptance_rate"] is not None


@pytest.mark.skipif(not vllm_sessions.HAS_FP8_CACHE, reason="on a CPU vLLM's fp8 cache needs AVX-512 or AMX")
def test_an_fp8_cache_holds_four_times_the_positions_and_is_read_as_what_it_is(
    new_session: RunnerProcess, session: RunnerProcess, small: Path, tmp_path: Path
) -> None:
    plain, exact = run(session, spec_of(tmp_path, small))
    result, requests = run(new_session, spec_of(tmp_path, small, engine={"kv_cache_dtype": "fp8_e4m3"}))
    told, of_plain = result.effective["reported"]["engine"], plain.effective["reported"]["engine"]
    assert told["kv_cache_dtype"] == "fp8_e4m3"
    assert told["num_gpu_blocks"] == 4 * of_plain["num_gpu_blocks"]
    assert begun_alike(requests, exact) >= 0.5
    assert outputs(requests) != outputs(exact)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        # The engine itself would take it, and read its bytes as something else.
        ({"kv_cache_dtype": "nvfp4"}, "can be auto, fp8, fp8_e4m3, fp8_e5m2 on a CPU"),
        ({"quantization": "fp8", "dtype": "bfloat16"}, "no kernel static_scaled_fp8_quant"),
    ],
    ids=["cache", "weights"],
)
def test_a_type_that_the_cpu_cannot_compute_in_is_refused_in_one_line(
    new_session: RunnerProcess, small: Path, tmp_path: Path, engine: dict[str, Any], words: str
) -> None:
    said = error(new_session, spec_of(tmp_path, small, engine=engine))
    assert said["kind"] == "bad_request", said
    assert words in said["message"]
    assert "\n" not in said["message"]


def test_a_checkpoint_of_8_bits_is_served_and_told(
    new_session: RunnerProcess, session: RunnerProcess, small: Path, tmp_path: Path
) -> None:
    _, exact = run(session, spec_of(tmp_path, small))
    result, requests = run(new_session, spec_of(tmp_path, small.parent / "int8"))
    assert result.effective["reported"]["engine"]["quantization"] == "compressed-tensors"
    assert begun_alike(requests, exact) >= 0.5
    assert outputs(requests) != outputs(exact)


def test_a_model_that_drafts_for_itself_is_always_right_and_changes_no_text(
    new_session: RunnerProcess, session: RunnerProcess, small: Path, tmp_path: Path
) -> None:
    _, exact = run(session, spec_of(tmp_path, small))
    speculation = {"model": str(small), "num_speculative_tokens": 3}
    result, requests = run(new_session, spec_of(tmp_path, small, engine={"speculative_config": speculation}))
    told = result.effective["reported"]["engine"]["speculative_config"]
    assert told == {"method": "draft_model", "num_speculative_tokens": 3}
    assert result.gauges["draft_acceptance_rate"] == pytest.approx(1.0, abs=0.02)
    assert outputs(requests) == outputs(exact)
    # One token of the prompt's step, then three drafted ones and one more a step.
    assert {len(set(record.token_ns or [])) for record in requests} <= {7, 8}
