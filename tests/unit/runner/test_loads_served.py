"""Loads that hand requests over one by one, through a real runner process on the replay backend."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from runner_process import RunnerProcess, make_spec, wait_until
from toy_backend import runner_with_backend

from lem_runner.protocol import RunSpec, Warmup
from lem_runner.results import counted_inside

QUICK = {"decode_ms_per_token": 2.0, "prefill_ms_per_token": 0.1}
LOADS: dict[str, dict[str, Any]] = {
    "closed": {"mode": "closed", "concurrency": 4},
    "poisson": {"mode": "poisson", "rate_per_s": 60.0},
    "gamma": {"mode": "gamma", "rate_per_s": 60.0, "burstiness": 0.5},
    "continuous": {"mode": "offline", "batch_size": 4, "batching": "continuous"},
}


def spec_of(folder: Path, **changes: Any) -> RunSpec:
    return make_spec(folder, **{"lengths": [3] * 40, "max_new_tokens": 5, "engine": QUICK, **changes})


@pytest.mark.parametrize("name", sorted(LOADS))
def test_a_load_leaves_records_whose_times_fill_its_window(runner: RunnerProcess, tmp_path: Path, name: str) -> None:
    assert runner.run("a1", spec_of(tmp_path, **LOADS[name])).type == "result"
    result, requests = runner.result("a1"), runner.requests("a1")
    (window,) = result.windows
    assert result.counting == "by_token_time"
    assert len(requests) == len({record.prompt_sha256 for record in requests}) == 40
    counts = counted_inside(requests, window.t_begin_ns, window.t_end_ns)
    assert counts == (window.requests, window.tokens_in, window.tokens_out)
    assert 0 < window.requests < 40
    is_open = name in ("poisson", "gamma")
    for record in requests:
        assert (record.t_due_ns is not None) == is_open
        assert (record.t_due_ns or 0) <= record.t_submit_ns
        assert record.queue_s is not None
        assert record.prefill_s is not None
    assert ("settled" in result.load) == is_open


def test_a_trace_is_read_checked_and_played(runner: RunnerProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text("".join(f"{number * 0.01:.3f}\n" for number in range(40)))
    sha256 = hashlib.sha256(trace.read_bytes()).hexdigest()
    played = spec_of(tmp_path, mode="trace", trace_path=str(trace), trace_sha256=sha256)
    assert runner.run("a1", played).type == "result"
    due_ns = [record.t_due_ns or 0 for record in runner.requests("a1")]
    assert [(due - due_ns[0]) // 10**7 for due in due_ns] == list(range(40))
    other = spec_of(tmp_path, mode="trace", trace_path=str(trace), trace_sha256="0" * 64)
    assert "its sha256 is" in runner.run("a2", other).data["message"]
    gone = spec_of(tmp_path, mode="trace", trace_path=str(tmp_path / "none"), trace_sha256=sha256)
    assert "prepare it first" in runner.run("a3", gone).data["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "closed", "concurrency": 41}, "concurrency 41 with 40 prompts"),
        ({"mode": "closed"}, "concurrency None"),
        ({"mode": "poisson", "rate_per_s": 0.0}, "rate_per_s is 0.0, more than 0"),
        ({"mode": "gamma", "rate_per_s": 1.0}, "burstiness is None"),
        ({"mode": "trace"}, "without a trace_path"),
        ({"mode": "steady"}, "mode 'steady' is unknown"),
        ({"mode": "closed", "concurrency": 14}, "needs at least 42"),
        ({"batching": "continuous", "batch_size": 5}, "needs at least 50"),
    ],
)
def test_a_load_that_cannot_be_is_refused(
    runner: RunnerProcess, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    event = runner.run("a1", spec_of(tmp_path, **changes))
    assert (event.type, event.data["kind"]) == ("error", "bad_request")
    assert words in event.data["message"]


def test_an_engine_without_batching_of_its_own_is_refused_a_load(start_runner: Any, tmp_path: Path) -> None:
    source = (
        "from lem_runner.backends import Engine\nPACKAGES = ()\nOWNS_CUDA = 'engine'\nLOADS = ('offline',)\n"
        "class Toy(Engine):\n    def load(self, spec): pass\n"
        "    def generate(self, prompts, decoding, seed): return []\n"
        "def open(): return Toy()\ndef describe(): return []\n"
    )
    root = runner_with_backend(tmp_path, "toy", source)
    event = start_runner(package_root=root).run("a1", spec_of(tmp_path, backend="toy", **LOADS["closed"]))
    assert "closed needs an engine that takes requests while it works on others" in event.data["message"]


def test_a_cancel_ends_the_warm_up_of_a_load_too(runner: RunnerProcess, tmp_path: Path) -> None:
    slow = spec_of(tmp_path, engine={"decode_ms_per_token": 20_000.0}, **LOADS["closed"])
    runner.send("run", "a1", slow)
    runner.wait_for("loaded", "a1")
    runner.send("go", "a1")
    runner.send("cancel", "a1")
    wait_until(lambda: any(event.data.get("cancelled") for event in runner.events()), "the cancel's answer")
    assert "warm" not in runner.types()


def test_a_cancel_ends_a_load_within_its_next_look(runner: RunnerProcess, tmp_path: Path) -> None:
    slow = spec_of(tmp_path, mode="poisson", rate_per_s=1.0, warmup=Warmup(kind="none"))
    runner.send("run", "a1", slow)
    runner.wait_for("loaded", "a1")
    runner.send("go", "a1")
    runner.wait_for("window_begin", "a1")
    runner.send("cancel", "a1")
    wait_until(lambda: any(event.data.get("cancelled") for event in runner.events()), "the cancel's answer")
    assert runner.run("a2", spec_of(tmp_path, **LOADS["closed"])).type == "result"


def test_a_fault_under_load_is_told_as_one_in_a_batch(runner: RunnerProcess, tmp_path: Path) -> None:
    faulty = spec_of(tmp_path, engine={**QUICK, "fault": "error", "fault_batch": 7}, **LOADS["closed"])
    event = runner.run("a1", faulty)
    assert (event.type, event.data["kind"]) == ("error", "engine_error")
    assert "window_begin" in runner.types()
    assert "window_end" not in runner.types()


def test_the_warm_up_of_a_load_runs_until_it_is_steady(runner: RunnerProcess, tmp_path: Path) -> None:
    warmup = Warmup(kind="steady", max_s=10.0, cv_limit=0.5)
    engine = {"decode_ms_per_token": 10.0}
    assert runner.run("a1", spec_of(tmp_path, engine=engine, warmup=warmup, **LOADS["poisson"])).type == "result"
    warm = runner.result("a1").warmup
    assert warm["ended"] == "steady"
    assert warm["batches"] >= 5


def test_the_events_of_a_load_are_those_of_batches(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.run("a1", spec_of(tmp_path, **LOADS["closed"]))
    assert runner.quit() == 0
    assert runner.types() == ["hello", "loading", "loaded", "warm", "window_begin", "window_end", "result", "bye"]
    body = json.loads((runner.folder / "a1.result.json").read_text())
    assert body["load"].keys() == {"in_flight", "worked_on", "ramp_s", "drain_s"}
