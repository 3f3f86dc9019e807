"""Several processes for one model, on a CPU with gloo: ranks that share its layers, replicas that share its work."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from runner_process import RunnerProcess, is_alive, make_spec, wait_until
from test_transformers_options import DRIVER, drive

from lem_runner.processes import descendants
from lem_runner.protocol import ALIVE_PERIOD_S, EXIT_ORPHANED, ModelRef, RunSpec, Warmup

pytestmark = pytest.mark.engine

CEILING_S = 180.0
EQUAL, RAGGED = [6, 6, 6, 6], [3, 9, 17, 5]
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module")
def one(engine_python: str, stored_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """What one engine in a process of its own does: ranks cannot leave their group and join another."""
    folder = tmp_path_factory.mktemp("ranks")
    stored = ModelRef("path", "tiny", path=str(stored_model))

    def run(lengths: list[int], model: ModelRef = stored, **engine: Any) -> dict[str, Any]:
        case = {"model": asdict(model), "engine": {"dtype": "float32", **engine}, "sampling": {}, "batch": 4}
        (folder / "case.json").write_text(json.dumps([{**case, "lengths": lengths}]))
        (outcome,) = drive(engine_python, DRIVER, folder / "case.json")
        return outcome

    return run


def test_two_tensor_parallel_ranks_make_the_tokens_of_one(one: Callable[..., Any]) -> None:
    alone, shared = one(RAGGED), one(RAGGED, tensor_parallel=2)
    assert shared["tokens"] == alone["tokens"]
    for name in ("parameters", "weights_b", "dtype"):
        assert shared["effective"][name] == alone["effective"][name]
    assert shared["effective"]["ranks"] == 2
    # The other rank is a child of the first: its memory is in the sum over processes already.
    assert shared["memory"]["host_rss_b"] == pytest.approx(shared["own_memory"]["host_rss_b"], rel=0.05)
    assert shared["memory"]["device_used_b"] is None


@pytest.mark.slow
def test_two_pipeline_stages_make_the_tokens_of_one_and_refuse_padding(one: Callable[..., Any]) -> None:
    alone, shared = one(EQUAL), one(EQUAL, pipeline_parallel=2)
    assert shared["tokens"] == alone["tokens"]
    assert shared["effective"]["parameters"] == alone["effective"]["parameters"]
    error = one(RAGGED, pipeline_parallel=2)["error"]
    assert error["kind"] == "bad_request"
    assert "one length" in error["message"]


@pytest.mark.slow
def test_ranks_draw_a_random_model_between_them(one: Callable[..., Any]) -> None:
    random = ModelRef("random", "tiny", config=SHAPE, seed=3)
    shared = one(EQUAL, random, tensor_parallel=2)
    assert shared["effective"]["parameters"] == one(EQUAL, random)["effective"]["parameters"]
    assert [len(tokens) for tokens in shared["tokens"]] == [12] * 4


@pytest.fixture
def parallel(engine_python: str, tmp_path: Path) -> Iterator[RunnerProcess]:
    runner = RunnerProcess(tmp_path / "session", interpreter=engine_python)
    yield runner
    runner.end()


def spec_of(folder: Path, model: Path, engine: dict[str, Any], **changes: Any) -> RunSpec:
    defaults: dict[str, Any] = {
        "backend": "pytorch",
        "model": ModelRef("path", "tiny", path=str(model)),
        "engine": {"dtype": "float32", **engine},
        "lengths": [5] * 8,
        "max_new_tokens": 16,
        "batch_size": 2,
        "warmup": Warmup(kind="none"),
    }
    return make_spec(folder, **{**defaults, **changes})


def in_window(runner: RunnerProcess, spec: RunSpec) -> list[int]:
    """Process ids below a runner that is in a window without end."""
    runner.send("run", "a1", spec)
    assert runner.wait_for(("loaded", "error"), "a1", CEILING_S).type == "loaded"
    runner.send("go", "a1")
    runner.wait_for("window_begin", "a1", CEILING_S)
    return descendants(runner.process.pid)


def test_a_rank_that_hangs_is_told_of_and_one_that_is_killed_ends_the_runner_as_it_died(
    parallel: RunnerProcess, tmp_path: Path, stored_model: Path
) -> None:
    (follower,) = in_window(parallel, spec_of(tmp_path, stored_model, {"tensor_parallel": 2}, window_s=600.0))

    def silent_s() -> float:
        told = [event.data["ranks"] for event in parallel.events() if "ranks" in event.data]
        return float(told[-1][0]["silent_s"]) if told else 0.0

    os.kill(follower, signal.SIGSTOP)
    # The runner itself, which waits for it in a collective, goes on telling.
    wait_until(lambda: silent_s() > ALIVE_PERIOD_S + 1, "the silence of the rank that is stopped", CEILING_S)
    os.kill(follower, signal.SIGKILL)
    assert parallel.wait(CEILING_S) == -signal.SIGKILL
    assert "rank 1 of 2" in parallel.stderr()
    assert not parallel.has_result("a1")


def test_ranks_end_with_the_controller(parallel: RunnerProcess, tmp_path: Path, stored_model: Path) -> None:
    pids = in_window(parallel, spec_of(tmp_path, stored_model, {"tensor_parallel": 2}, window_s=600.0))
    assert pids
    parallel.close_stdin()
    assert parallel.wait(CEILING_S) == EXIT_ORPHANED
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the ranks", CEILING_S)


def test_two_replicas_of_the_model_share_the_batches(
    parallel: RunnerProcess, tmp_path: Path, stored_model: Path, one: Callable[..., Any]
) -> None:
    spec = spec_of(tmp_path, stored_model, {"data_parallel": 2}, lengths=RAGGED, batch_size=1, max_new_tokens=12)
    event = parallel.run("a1", spec, CEILING_S)
    assert event.type == "result", event.data
    records = parallel.requests("a1")
    assert [record.replica for record in records] == [0, 1, 0, 1]
    assert [record.output_ids for record in records] == one(RAGGED)["tokens"]
    result = parallel.result("a1")
    assert result.effective["replicas"] == 2
    assert result.effective["replica_devices"] == [["cpu"], ["cpu"]]
    assert result.memory["host_rss_b"] > 2 * 100_000_000
