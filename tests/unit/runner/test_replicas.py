"""Several whole runners below one: real processes on the replay engine, whose tokens follow from the prompt alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from runner_process import RunnerProcess, StartRunner, is_alive, make_spec, wait_until

from lem_runner.failures import BadRequestError
from lem_runner.protocol import EXIT_ORPHANED, LEASE_FILE, PID_FILE, Event, RunSpec, Warmup, steady_file
from lem_runner.replicas import _Running, visible_devices
from lem_runner.results import RequestRecord
from lem_runner.watch import FileAge

CEILING_S = 40.0
QUICK = {"decode_ms_per_token": 0.5}


def spec_of(folder: Path, of: int = 2, engine: dict[str, Any] | None = None, **changes: Any) -> RunSpec:
    parameters = {**QUICK, "data_parallel": of, **(engine or {})}
    return make_spec(folder, engine=parameters, **{"batch_size": 2, **changes})


def run(runner: RunnerProcess, name: str, spec: RunSpec) -> list[RequestRecord]:
    event = runner.run(name, spec, CEILING_S)
    assert event.type == "result", event.data
    return runner.requests(name)


def pids_of(runner: RunnerProcess, of: int = 2) -> list[int]:
    paths = [runner.folder / f"replica-{index}" / PID_FILE for index in range(of)]
    wait_until(lambda: all(path.exists() and path.read_text().strip() for path in paths), "the replicas", CEILING_S)
    return [int(path.read_text()) for path in paths]


def begin(runner: RunnerProcess, spec: RunSpec) -> list[int]:
    """An attempt without end; the replicas' process ids, once all are in their window."""
    runner.send("run", "a1", spec)
    runner.wait_for("loaded", "a1", CEILING_S)
    runner.send("go", "a1")
    runner.wait_for("window_begin", "a1", CEILING_S)
    return pids_of(runner)


def test_every_prompt_is_done_once_and_as_one_engine_would(start_runner: StartRunner, tmp_path: Path) -> None:
    sampled = {"sampling": {"temperature": 1.0, "do_sample": True}, "seed": 5}
    alone = run(start_runner("alone"), "a1", spec_of(tmp_path, 1, **sampled))
    shared = start_runner("shared")
    together = run(shared, "a1", spec_of(tmp_path, 2, **sampled))
    work = [(record.index, record.batch, record.prompt_sha256, record.output_ids) for record in alone]
    assert [(record.index, record.batch, record.prompt_sha256, record.output_ids) for record in together] == work
    assert [record.replica for record in together] == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
    result = shared.result("a1")
    (window,) = result.windows
    assert (window.requests, window.batches, window.tokens_out) == (10, 5, 80)
    assert window.t_begin_ns <= min(record.t_submit_ns for record in together)
    assert window.t_end_ns >= max(record.t_end_ns for record in together)
    assert result.effective["replicas"] == 2
    assert result.effective["replicas_differ_in"] == []
    for index, count in ((0, 6), (1, 4)):
        own = (shared.folder / f"replica-{index}" / "a1.requests.jsonl").read_bytes().splitlines()
        assert len(own) == count
    assert shared.quit() == 0
    assert shared.types() == ["hello", "loading", "loaded", "warm", "window_begin", "window_end", "result", "bye"]


def test_windows_begin_together_and_the_engines_are_kept(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner()
    for name in ("a1", "a2"):
        run(runner, name, spec_of(tmp_path, window_s=0.3, warmup=Warmup(kind="one_batch")))
        begins = []
        for index in range(2):
            lines = (runner.folder / f"replica-{index}" / f"{name}.result.json").read_text()
            begins.append(int(lines.partition('"t_begin_ns":')[2].partition(",")[0]))
        assert abs(begins[0] - begins[1]) < 100_000_000
    assert runner.types().count("loading") == 1
    assert [event.data["reused"] for event in runner.events() if event.type == "loaded"] == [False, True]


def test_the_controller_lets_all_of_them_out_of_the_warm_up(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner()
    warmup = Warmup(kind="steady", max_s=600.0, cv_limit=100.0, await_device=True)
    runner.send("run", "a1", spec_of(tmp_path, warmup=warmup))
    runner.wait_for("loaded", "a1", CEILING_S)
    runner.send("go", "a1")
    wait_until(lambda: pids_of(runner), "the replicas", CEILING_S)
    assert "warm" not in runner.types()
    (runner.folder / steady_file("a1")).touch()
    assert runner.wait_for("warm", "a1", CEILING_S).data["ended"] == "steady"
    runner.wait_for("result", "a1", CEILING_S)


def test_a_cancel_reaches_all_and_leaves_them_able(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner()
    begin(runner, spec_of(tmp_path, window_s=600.0))
    runner.send("cancel", "a1")
    runner.wait_cancelled("a1")
    runner.send("run", "a2", spec_of(tmp_path))
    runner.wait_for("loaded", "a2", CEILING_S)
    runner.send("cancel", "a2")
    runner.wait_cancelled("a2")
    assert len(run(runner, "a3", spec_of(tmp_path))) == 10


@pytest.mark.parametrize("end", ["stdin", "kill"])
def test_replicas_end_with_their_controller_and_with_their_runner(
    start_runner: StartRunner, tmp_path: Path, end: str
) -> None:
    runner = start_runner()
    pids = begin(runner, spec_of(tmp_path, window_s=600.0))
    if end == "stdin":
        runner.close_stdin()
        assert runner.wait() == EXIT_ORPHANED
    else:
        runner.process.kill()
        runner.wait()
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the replicas", CEILING_S)


def test_replicas_hold_to_the_lease_of_their_runner(start_runner: StartRunner, tmp_path: Path) -> None:
    """A runner that is stopped feeds nobody: what ends the replicas is the controller's own sign of life."""
    runner = start_runner()
    pids_of_them = begin(runner, spec_of(tmp_path, window_s=600.0))
    assert all(map(is_alive, pids_of_them))
    (runner.folder / LEASE_FILE).touch()
    os.utime(runner.folder / LEASE_FILE, (1.0, 1.0))
    for index in range(len(pids_of_them)):
        assert (runner.folder / f"replica-{index}" / LEASE_FILE).stat().st_mtime == 1.0


def test_a_replica_that_dies_ends_the_runner_as_it_died(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner()
    pids = begin(runner, spec_of(tmp_path, window_s=600.0))
    os.kill(pids[1], signal.SIGKILL)
    assert runner.wait(CEILING_S) == -signal.SIGKILL
    assert "replica 1 of 2" in runner.stderr()
    wait_until(lambda: not is_alive(pids[0]), "the end of the other", CEILING_S)
    assert not runner.has_result("a1")


def test_a_sign_of_life_tells_of_each_replica(start_runner: StartRunner, tmp_path: Path) -> None:
    """Of one that works its counts, of one that is stopped how long it has told nothing."""
    runner = start_runner(alive_period_s=0.2)
    stopped = begin(runner, spec_of(tmp_path, window_s=600.0))[1]
    os.kill(stopped, signal.SIGSTOP)

    def signs() -> list[dict[str, Any]]:
        told = [event.data["replicas"] for event in runner.events() if "replicas" in event.data]
        return told[-1] if told else [{"silent_s": 0.0}] * 2

    wait_until(lambda: signs()[1]["silent_s"] > 6.0, "the silence of the one that is stopped", CEILING_S)
    working = signs()[0]
    assert working["phase"] == "window"
    assert working["batches"] > 0
    assert working["tokens_out"] > 0
    assert working["silent_s"] < 6.0
    os.kill(stopped, signal.SIGCONT)  # or it would outlive its runner, which ends with the test


def test_a_replica_whose_rank_hangs_is_as_silent_as_that_rank(tmp_path: Path) -> None:
    alive = Event(
        0, 1, "a1", "alive", {"phase": "window", "batches": 2, "tokens_out": 8, "ranks": [{"silent_s": 61.0}]}
    )
    process: Any = None
    one = _Running("replica 0 of 1", tmp_path, process, FileAge(time.monotonic()), alive=alive)
    assert one.sign("a1") == {"phase": "window", "batches": 2, "tokens_out": 8, "silent_s": 61.0}
    assert one.sign("a2") == {"phase": "idle", "batches": 0, "tokens_out": 0, "silent_s": 61.0}


@pytest.mark.parametrize(
    ("fault", "at", "kind"),
    [("oom_gpu", "window", "oom_gpu"), ("oom_host", "load", "oom_host"), ("gap", "window", None)],
)
def test_what_one_replica_tells_is_told_with_its_kind(
    start_runner: StartRunner, tmp_path: Path, fault: str, at: str, kind: str | None
) -> None:
    engine = {"fault": fault, "fault_at": at, "fault_marker": "once"}
    runner = start_runner()
    event = runner.run("a1", spec_of(tmp_path, engine=engine), CEILING_S)
    if kind is None:  # a gap in its stream is for the controller of that stream to judge; the records are whole
        assert event.type == "result"
        return
    assert event.type == "error"
    assert event.data["kind"] == kind
    assert event.data["message"].startswith("replica ")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch_size": 10}, "fewer than 2 replicas"),
        ({"mode": "closed", "concurrency": 2}, "offline batches"),
        ({"batching": "continuous"}, "offline batches"),
        ({"engine": {"jitter": 2.0}}, "jitter"),
    ],
)
def test_what_replicas_cannot_do_is_refused(
    start_runner: StartRunner, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    event = start_runner().run("a1", spec_of(tmp_path, **changes), CEILING_S)
    assert event.type == "error"
    assert event.data["kind"] == "bad_request"
    assert text in event.data["message"]


def test_gpus_are_shared_out_evenly() -> None:
    assert [visible_devices("GPU-a,GPU-b", index, 2, 1) for index in range(2)] == ["GPU-a", "GPU-b"]
    assert [visible_devices("0,1,2,3", index, 2, 2) for index in range(2)] == ["0,1", "2,3"]
    assert [visible_devices(None, index, 2, 2) for index in range(2)] == ["0,1", "2,3"]
    assert visible_devices("", 1, 2, 1) == ""
    with pytest.raises(BadRequestError, match="3 GPUs cannot be shared evenly by 2"):
        visible_devices("0,1,2", 0, 2, 1)
