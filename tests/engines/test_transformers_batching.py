"""transformers' continuous batching under the loads that hand requests over one by one, on a tiny model and a CPU."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from runner_process import RunnerProcess, make_spec

from lem_runner.protocol import ModelRef, Warmup
from lem_runner.results import AttemptResult, RequestRecord

pytestmark = pytest.mark.engine

CEILING_S = 120.0
RUNNER_ROOT = Path(__file__).parents[2] / "runner"
NEW_TOKENS = 40
LENGTHS = [3 + (7 * index) % 20 for index in range(24)]
_numbers = count()
#: One prompt three times on an engine that shares blocks, its cache emptied before the last: the prompt's tokens that
#: came from the cache each time, as told, and what was made of them.
SHARING = """
import json, sys
from lem_runner.backends import Decoding, pytorch
from lem_runner.prompts import Prompt
from lem_runner.protocol import MeasureSpec, ModelRef, RunSpec, WorkloadSpec
engine, decoding = pytorch.open(), Decoding(4, "fixed", {})
prompt = Prompt(0, None, [3 + index % 200 for index in range(100)], "")
work = WorkloadSpec("", "", 1, 4, "fixed", "closed", concurrency=1)
settings = {"dtype": "float32", "cb_allow_block_sharing": True, "cb_page_size": 16}
engine.load(RunSpec("pytorch", "key", ModelRef("path", "tiny", path=sys.argv[1]), settings, {}, work, MeasureSpec()))
engine.expect(one_by_one=True)
engine.admit([prompt], decoding)
done = [engine.generate([prompt], decoding, 0)[0] for _ in range(2)]
engine.forget_prompts()
done.append(engine.generate([prompt], decoding, 0)[0])
engine.close()
print(json.dumps({"found": [one.cached_tokens for one in done], "made": [one.tokens for one in done]}))
"""


@pytest.fixture(scope="module")
def session(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    runner = RunnerProcess(tmp_path_factory.mktemp("batching") / "session", interpreter=engine_python)
    yield runner
    runner.end()


def spec_of(folder: Path, model: Path, **changes: Any) -> Any:
    defaults: dict[str, Any] = {
        "backend": "pytorch",
        "model": ModelRef("path", "tiny", path=str(model)),
        "engine": {"dtype": "float32"},
        "lengths": LENGTHS,
        "max_new_tokens": NEW_TOKENS,
        "warmup": Warmup(kind="one_batch"),
    }
    return make_spec(folder, **{**defaults, **changes})


def run(runner: RunnerProcess, folder: Path, model: Path, **changes: Any) -> tuple[AttemptResult, list[RequestRecord]]:
    name = f"a{next(_numbers)}"
    event = runner.run(name, spec_of(folder, model, **changes), CEILING_S)
    assert event.type == "result", event.data
    return runner.result(name), runner.requests(name)


def texts(requests: list[RequestRecord]) -> dict[str, str | None]:
    return {record.prompt_sha256: record.output_sha256 for record in requests}


def test_closed_load_gives_the_tokens_of_generate_with_a_time_for_each(
    session: RunnerProcess, tmp_path: Path, stored_model: Path
) -> None:
    _, alone = run(session, tmp_path, stored_model, batch_size=1)
    result, requests = run(session, tmp_path, stored_model, mode="closed", concurrency=4)
    assert texts(requests) == texts(alone)
    (window,) = result.windows
    # No cache in `generate`, and none that is shared here: that is nothing taken, not nothing told.
    assert {record.cached_tokens for record in alone + requests} == {0}
    for record in requests:
        assert record.tokens_out == NEW_TOKENS
        assert record.stop == "length"
        assert record.token_ns == sorted(record.token_ns or [])
        assert record.t_submit_ns < (record.t_first_ns or 0) < record.t_end_ns
        assert (record.queue_s or -1) >= 0
        assert (record.prefill_s or -1) > 0
    assert window.tokens_out > 0
    assert result.counting == "by_token_time"
    assert 0 < (result.gauges["kv_cache_usage"] or 0) <= 1
    assert result.effective["continuous_batching"]["allow_block_sharing"] is result.effective["prefix_cache"] is False
    # Four at a time share steps: they overlap, which one after another never do.
    spans = sorted((record.t_submit_ns, record.t_end_ns) for record in requests)
    assert any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def test_arrivals_of_their_own_are_served(session: RunnerProcess, tmp_path: Path, stored_model: Path) -> None:
    result, requests = run(session, tmp_path, stored_model, mode="poisson", rate_per_s=40.0, arrival_seed=3)
    assert len(requests) == len(LENGTHS)
    assert result.load["latency_p95_s"] > 0
    assert all(record.t_due_ns is not None for record in requests)


def test_natural_ends_and_batches_after_a_load_on_the_same_engine(
    session: RunnerProcess, tmp_path: Path, stored_model: Path
) -> None:
    natural = {"output": "natural", "sampling": {"temperature": 1.0}}
    _, requests = run(session, tmp_path, stored_model, mode="closed", concurrency=8, **natural)
    assert all(record.tokens_out <= NEW_TOKENS for record in requests)
    assert all((record.stop == "length") <= (record.tokens_out == NEW_TOKENS) for record in requests)
    _, batches = run(session, tmp_path, stored_model, batch_size=4)
    assert [record.tokens_out for record in batches] == [NEW_TOKENS] * len(LENGTHS)
    assert session.types().count("loading") == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sampling": {"num_beams": 2}}, "num_beams"),
        ({"sampling": {"prompt_lookup_num_tokens": 2}}, "prompt_lookup_num_tokens"),
        ({"sampling": {"repetition_penalty": 1.3}}, "RepetitionPenalty"),
    ],
)
def test_what_it_cannot_do_is_refused_before_the_window(
    session: RunnerProcess, tmp_path: Path, stored_model: Path, changes: dict[str, Any], text: str
) -> None:
    spec = spec_of(tmp_path, stored_model, mode="closed", concurrency=4, **changes)
    event = session.run(f"a{next(_numbers)}", spec, CEILING_S)
    assert event.type == "error", event.data
    assert event.data["kind"] == "bad_request"
    assert text in event.data["message"]


def test_a_cancelled_load_leaves_the_engine_able(session: RunnerProcess, tmp_path: Path, stored_model: Path) -> None:
    name = f"a{next(_numbers)}"
    spec = spec_of(tmp_path, stored_model, mode="closed", concurrency=4, window_s=600.0)
    session.send("run", name, spec)
    session.wait_for("loaded", name, CEILING_S)
    session.send("go", name)
    session.wait_for("window_begin", name, CEILING_S)
    session.send("cancel", name)
    session.wait_cancelled(name)
    _, requests = run(session, tmp_path, stored_model, mode="closed", concurrency=4)
    assert len(requests) == len(LENGTHS)


def test_the_prompts_of_a_window_are_new_to_a_cache_that_is_shared(engine_python: str, stored_model: Path) -> None:
    command = [engine_python, "-c", SHARING, str(stored_model)]
    environment = {**os.environ, "PYTHONPATH": str(RUNNER_ROOT)}
    outcome = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=CEILING_S, env=environment)
    told = json.loads(outcome.stdout.splitlines()[-1])
    # Of the 100 tokens six whole pages of 16 are kept; the last token is never taken from a cache.
    assert told["found"] == [0, 96, 0]
    assert told["made"][0] == told["made"][1] == told["made"][2]


def test_a_prompt_that_comes_again_in_a_window_is_told_as_taken_from_the_cache(
    engine_python: str, tmp_path: Path, stored_model: Path
) -> None:
    shared = {"dtype": "float32", "cb_allow_block_sharing": True, "cb_page_size": 16}
    changes: dict[str, Any] = {"engine": shared, "lengths": [40, 40], "max_new_tokens": 4, "mode": "closed"}
    runner = RunnerProcess(tmp_path / "shared", interpreter=engine_python)
    try:
        result, requests = run(runner, tmp_path, stored_model, concurrency=1, window_s=3.0, **changes)
    finally:
        runner.end()
    assert result.effective["continuous_batching"]["allow_block_sharing"] is result.effective["prefix_cache"] is True
    assert len(requests) > 2, "the pool of two prompts must have come round"
    first, second, *again = [record.cached_tokens for record in sorted(requests, key=lambda one: one.t_submit_ns)]
    assert (first, second) == (0, 0)
    assert set(again) == {32}, "both whole pages of each"
