"""TensorRT-LLM's backend through the runner, on a stand-in of the library that refuses what the library refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runner_process import RUNNER_ROOT, RunnerProcess, StartRunner, make_spec

from lem_runner.prompts import ids_sha256
from lem_runner.protocol import ModelRef
from standin.interpreter import AMPERE, STANDIN, VOCABULARY, build_driver, write_interpreter, write_model

TESTS = Path(__file__).parents[2]
COMMITTED = TESTS.parent / "images" / "tensorrt" / "params.json"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(tmp_path_factory.mktemp("cuda"))


Begin = Callable[..., RunnerProcess]


@pytest.fixture
def begin(start_runner: StartRunner, driver: Path, tmp_path: Path) -> Begin:
    """Starts a runner whose Python has the stand-in, on a host with the GPUs named."""

    def start(gpus: str = AMPERE, has_driver: bool = True) -> RunnerProcess:
        python = write_interpreter(tmp_path / "python", driver if has_driver else None, gpus)
        return start_runner(interpreter=str(python))

    return start


def model(folder: Path, **standin: Any) -> ModelRef:
    return ModelRef("path", "tiny", path=str(write_model(folder / "model", **standin)))


def spec(folder: Path, **changes: Any) -> Any:
    if "model" not in changes:
        changes["model"] = model(folder)
    return make_spec(folder, **{"backend": "tensorrt", **changes})


def refusal(runner: RunnerProcess, asked: Any) -> dict[str, Any]:
    event = runner.run("a1", asked)
    assert event.type == "error"
    return event.data


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_killed_runner_leaves_its_files_in_the_session_folder_and_one_that_ends_leaves_none(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("LEM_SESSION_DIR", str(tmp_path / "session"))
    runner = begin()
    runner.send("run", "a1", spec(tmp_path))
    runner.wait_for("loaded", "a1")
    if is_killed:
        runner.process.kill()
    else:
        runner.send("quit")
    runner.process.wait(30)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(list((tmp_path / "session").glob("lem-*"))) == is_killed


@pytest.mark.parametrize("backend", ["pytorch", "tensorrt"])
def test_fixed_output_has_its_length_and_the_tokens_of_the_prompts(begin: Begin, tmp_path: Path, backend: str) -> None:
    runner = begin()
    asked = spec(tmp_path, engine={"backend": backend}, sampling={"top_k": 1}, lengths=[3, 5, 9])
    assert runner.run("a1", asked).type == "result", runner.stderr()
    lines = map(json.loads, Path(asked.workload.prompts_path).read_text().splitlines())
    prompts = {line["sha256"]: line["ids"] for line in lines}
    for record in runner.requests("a1"):
        tokens = [(sum(prompts[record.prompt_sha256]) + 7 * place) % VOCABULARY for place in range(8)]
        assert record.output_sha256 == ids_sha256(tokens)
        assert (record.tokens_out, record.stop) == (8, "length")
        assert record.token_ns == sorted(record.token_ns or ())
        assert record.t_submit_ns < (record.t_first_ns or 0) < record.t_end_ns
        assert record.queue_s is not None
        assert record.prefill_s is not None
        assert record.queue_s >= 0 < record.prefill_s
    assert runner.result("a1").effective["reported"]["engine"]["backend"] == backend


def test_natural_output_ends_with_the_models_own_end(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    asked = spec(tmp_path, output="natural", sampling={"top_k": 1}, lengths=[3, 4, 5, 6])
    assert runner.run("a1", asked).type == "result", runner.stderr()
    records = runner.requests("a1")
    assert [record.stop for record in records] == ["eos"] * 4
    assert all(record.tokens_out < 8 for record in records)


def test_a_seed_draws_the_same_tokens_and_another_one_others(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    outputs = []
    for attempt, seed in (("a1", 5), ("a2", 5), ("a3", 6)):
        assert runner.run(attempt, spec(tmp_path, sampling={"temperature": 0.8}, seed=seed)).type == "result"
        outputs.append([record.output_sha256 for record in runner.requests(attempt)])
    assert outputs[0] == outputs[1] != outputs[2]
    assert runner.types().count("loading") == 1


def test_beams_have_no_token_times(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    asked = spec(tmp_path, engine={"max_beam_width": 2}, sampling={"use_beam_search": True, "best_of": 2, "top_k": 1})
    assert runner.run("a1", asked).type == "result", runner.stderr()
    assert all(record.token_ns is None and record.tokens_out == 8 for record in runner.requests("a1"))


def test_requests_in_flight_are_kept_at_the_concurrency(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    asked = spec(
        tmp_path, model=model(tmp_path, step_s=0.002), mode="closed", concurrency=4, window_s=0.5,
        engine={"max_batch_size": 4}, sampling={"top_k": 1}, lengths=[4] * 8,
    )  # fmt: skip
    assert runner.run("a1", asked).type == "result", runner.stderr()
    records = runner.requests("a1")
    assert len(records) > 8
    at = [sum(other.t_submit_ns <= one.t_submit_ns < other.t_end_ns for other in records) for one in records]
    assert max(at) == 4


def test_the_prefix_cache_is_counted_where_it_is_on(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    on = spec(
        tmp_path, engine={"kv_cache_config": {"enable_block_reuse": True}}, sampling={"top_k": 1}, lengths=[40] * 4
    )
    assert runner.run("a1", on).type == "result", runner.stderr()
    # The warm-up has seen every prompt.
    assert all(record.cached_tokens for record in runner.requests("a1"))
    assert runner.result("a1").effective["prefix_cache"] is True


@pytest.mark.parametrize(
    ("gpus", "has_driver", "engine", "said"),
    [
        ("Tesla_V100:7.0", True, {}, "needs compute capability 8.0 or newer; Tesla_V100 has 7.0"),
        ("", True, {}, "need 1 GPUs, this process has 0"),
        (AMPERE, True, {"tensor_parallel_size": 2}, "need 2 GPUs, this process has 1"),
        (AMPERE, False, {}, "needs an NVIDIA GPU: the NVIDIA driver is not here"),
    ],
)
def test_a_gpu_that_will_not_do_is_said_before_anything_is_loaded(
    begin: Begin, tmp_path: Path, gpus: str, has_driver: bool, engine: dict[str, Any], said: str
) -> None:
    runner = begin(gpus, has_driver)
    asked = spec(tmp_path, engine=engine, model=ModelRef("path", "gone", path="/nowhere"))
    error = refusal(runner, asked)
    assert error["kind"] == "bad_request"
    assert said in error["message"]


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (
            {"engine": {"kv_cache_config": {"enable_blok_reuse": True}}},
            "bad_request",
            "did you mean enable_block_reuse?",
        ),
        ({"engine": {"quant_config": {"quant_algo": "FP8"}}}, "bad_request", "only with backend: tensorrt"),
        ({"engine": {"tokenizer": "x"}}, "bad_request", "given token ids alone"),
        ({"model": {"fault": "load"}}, "oom_gpu", "out of memory"),
        ({"sampling": {"n": 2}}, "bad_request", "the workload sets"),
        ({"max_new_tokens": 62}, "bad_request", "the engine takes 64"),
        ({"lengths": [200]}, "bad_request", "the engine takes 64"),
        ({"model": {"fault": "engine"}}, "oom_gpu", "out of memory"),
    ],
)
def test_what_cannot_be_done_is_one_clear_failure(
    begin: Begin, tmp_path: Path, change: dict[str, Any], kind: str, said: str
) -> None:
    runner = begin()
    if "model" in change:
        change = {**change, "model": model(tmp_path, **change["model"])}
    error = refusal(runner, spec(tmp_path, **{"lengths": [3] * 4, "batch_size": 1, **change}))
    assert error["kind"] == kind
    assert said in error["message"]


def test_one_failed_request_is_an_error_of_its_own(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    asked = spec(tmp_path, model=model(tmp_path, fault="request"), sampling={"top_k": 1}, lengths=[3, 4, 5, 6])
    assert runner.run("a1", asked).type == "result", runner.stderr()
    stops = {record.stop for record in runner.requests("a1")}
    assert stops == {"error", "length"}


def test_what_the_engine_runs_with_is_read_back(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    engine = {"max_batch_size": 4, "kv_cache_config": {"enable_block_reuse": False}, "enable_iter_perf_stats": True}
    asked = spec(tmp_path, model=model(tmp_path, runs_with="float16"), engine=engine, sampling={"top_k": 1})
    assert runner.run("a1", asked).type == "result", runner.stderr()
    result = runner.result("a1")
    told = result.effective["reported"]
    assert told["engine"]["dtype"] == result.effective["dtype"] == "float16"
    assert told["engine"]["kv_cache_config"]["enable_block_reuse"] is False
    assert runner.result("a1").effective["prefix_cache"] is False
    assert told["engine"]["kv_cache_config"]["tokens_per_block"] == 32
    assert told["sampling"]["top_k"] == 1
    assert result.memory["device_used_b"] == 123456
    assert result.effective["device_name"] == "A100"


def test_hello_and_the_check_of_the_gpu_import_neither_library_nor_torch(begin: Begin, tmp_path: Path) -> None:
    runner = begin("old:7.5")
    refusal(runner, spec(tmp_path))
    assert "tensorrt" in runner.wait_for("hello", "").data["backends"]
    program = (
        "import sys; from lem_runner import backends; backends.load('tensorrt').open();"
        "assert not {'torch', 'tensorrt_llm', 'transformers'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{RUNNER_ROOT}:{STANDIN}"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)


def test_closing_shuts_the_engine_down(begin: Begin, tmp_path: Path) -> None:
    runner = begin()
    assert runner.run("a1", spec(tmp_path, sampling={"top_k": 1})).type == "result"
    assert runner.quit() == 0
    assert (tmp_path / "model" / "shut-down").exists()


def test_committed_catalogue_is_what_the_interface_describes() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{RUNNER_ROOT}:{STANDIN}"}
    command = [sys.executable, "-m", "lem_runner", "describe", "tensorrt"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert COMMITTED.read_text() == found.stdout, "stale: describe tensorrt with tests/standin on the path"
