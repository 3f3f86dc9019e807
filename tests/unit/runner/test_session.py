"""The session's side of the contract, on a real process with the replay backend."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runner_process import RUNNER_ROOT, RunnerProcess, StartRunner, make_spec

from lem_runner import protocol
from lem_runner.identity import runner_hash
from lem_runner.protocol import Warmup
from lem_runner.results import requests_file, result_file


def test_one_run_emits_the_contract_in_order_without_a_gap(runner: RunnerProcess, tmp_path: Path) -> None:
    result = runner.run("a1", make_spec(tmp_path))
    assert runner.quit() == 0

    order = ["hello", "loading", "loaded", "warm", "window_begin", "window_end", "result", "bye"]
    assert runner.types() == order
    assert [event.seq for event in runner.events()] == list(range(len(runner.events())))
    times_ns = [event.t_mono_ns for event in runner.events()]
    assert times_ns == sorted(times_ns)
    for event in runner.events():
        assert event.attempt == ("" if event.type in ("hello", "bye") else "a1")
    assert result.data["file"] == result_file("a1")
    for file, sha256 in (("file", "sha256"), ("requests_file", "requests_sha256")):
        content = (runner.folder / result.data[file]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == result.data[sha256]


def test_hello_names_versions_hash_and_clock_before_any_engine(runner: RunnerProcess) -> None:
    hello = runner.wait_for("hello", "").data
    assert hello["contract"] == protocol.CONTRACT_VERSION
    assert hello["runner_hash"] == runner_hash(RUNNER_ROOT / "lem_runner")
    assert hello["pid"] == runner.process.pid
    assert hello["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert {"pytorch", "replay"} <= set(hello["backends"])
    assert int((runner.folder / protocol.PID_FILE).read_text()) == runner.process.pid


def test_result_counts_what_was_asked_for(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.run("a1", make_spec(tmp_path, lengths=[3, 5, 7, 9, 11], max_new_tokens=6))
    result, requests = runner.result("a1"), runner.requests("a1")
    (window,) = result.windows
    assert (window.batches, window.requests, window.tokens_in, window.tokens_out) == (2, 5, 35, 30)
    assert [record.tokens_in for record in requests] == [3, 5, 7, 9, 11]
    assert [record.batch for record in requests] == [0, 0, 0, 0, 1]
    assert len({record.prompt_sha256 for record in requests}) == 5
    for record in requests:
        assert record.token_ns is not None
        assert record.t_first_ns is not None
        assert window.t_begin_ns <= record.t_submit_ns <= record.t_first_ns <= record.t_end_ns <= window.t_end_ns
        assert len(record.token_ns) == record.tokens_out == 6
        assert record.stop == "length"
    assert result.warmup["ended"] == "one_batch"
    assert result.notes == []


def test_same_engine_key_is_not_loaded_again(runner: RunnerProcess, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, engine={"load_s": 0.2})
    runner.run("a1", spec)
    runner.run("a2", spec)
    first, second = (event.data for event in runner.events() if event.type == "loaded")
    assert runner.types().count("loading") == 1
    assert not first["reused"]
    assert first["load_s"] >= 0.2
    assert second["reused"]
    assert second["load_s"] == 0


def test_another_engine_in_the_same_session_is_refused_and_the_session_goes_on(
    runner: RunnerProcess, tmp_path: Path
) -> None:
    runner.run("a1", make_spec(tmp_path))
    error = runner.run("a2", make_spec(tmp_path, engine_key="key-2"))
    assert (error.type, error.data["kind"], error.data["fatal"]) == ("error", "bad_request", False)
    assert "key-1" in error.data["message"]
    assert "key-2" in error.data["message"]
    assert runner.run("a3", make_spec(tmp_path)).type == "result"


def test_same_seed_gives_the_same_tokens_and_another_seed_others(runner: RunnerProcess, tmp_path: Path) -> None:
    sampled = {"sampling": {"temperature": 1.0}, "output": "natural"}
    for attempt, seed in (("a1", 5), ("a2", 5), ("a3", 6)):
        runner.run(attempt, make_spec(tmp_path, seed=seed, **sampled))
    outputs = [[record.output_sha256 for record in runner.requests(name)] for name in ("a1", "a2", "a3")]
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_cancel_while_waiting_keeps_the_engine(runner: RunnerProcess, tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    runner.send("run", "a1", spec)
    runner.send("cancel", "a1")
    alive = runner.wait_cancelled("a1")
    assert alive.data["phase"] == "idle"
    assert not runner.has_result("a1")
    assert runner.run("a2", spec).type == "result"
    assert "error" not in runner.types()
    assert runner.types().count("loading") == 1


def test_cancel_in_the_window_ends_it_at_the_next_batch(runner: RunnerProcess, tmp_path: Path) -> None:
    long = make_spec(tmp_path, window_s=3600.0, engine={"decode_ms_per_token": 5.0})
    runner.send("run", "a1", long)
    runner.send("go", "a1")
    runner.wait_for("window_begin", "a1")
    runner.send("cancel", "a1")
    alive = runner.wait_cancelled("a1")
    assert alive.data["batches"] >= 1
    assert "window_end" not in runner.types()
    assert not runner.has_result("a1")
    assert runner.run("a2", make_spec(tmp_path)).type == "result"
    assert "error" not in runner.types()


def test_cancel_of_a_finished_attempt_changes_nothing(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.run("a1", make_spec(tmp_path))
    runner.send("cancel", "a1")
    assert runner.quit() == 0
    assert runner.types()[-2:] == ["result", "bye"]
    assert runner.has_result("a1")


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[1, 2]\n",
        b'{"v": 1, "verb": "dance"}\n',
        b'{"v": 1, "verb": "go", "attempt": "../escape"}\n',
        b'{"v": 1, "verb": "run", "attempt": "a1"}\n',
        b'{"v": 1, "verb": "run", "attempt": "a1", "spec": {"backend": "replay"}}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_line_that_is_no_command_is_refused_and_the_session_goes_on(
    runner: RunnerProcess, tmp_path: Path, line: bytes
) -> None:
    runner.send_raw(line)
    error = runner.wait_for("error", "")
    assert (error.data["kind"], error.data["fatal"]) == ("bad_request", False)
    assert "\n" not in error.data["message"]
    assert runner.run("a1", make_spec(tmp_path)).type == "result"


def test_another_contract_version_is_refused_with_both_numbers(runner: RunnerProcess) -> None:
    runner.send_raw(json.dumps({"v": 99, "verb": "quit"}).encode() + b"\n")
    message = runner.wait_for("error", "").data["message"]
    assert "99" in message
    assert str(protocol.CONTRACT_VERSION) in message


def test_go_for_an_attempt_that_does_not_wait_is_refused(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.send("go", "a9")
    assert runner.wait_for("error", "a9").data["kind"] == "bad_request"
    runner.send("run", "a1", make_spec(tmp_path))
    runner.send("run", "a2", make_spec(tmp_path))
    assert "a1" in runner.wait_for("error", "a2").data["message"]
    runner.send("go", "a1")
    runner.wait_for("result", "a1")


def test_an_attempt_is_made_once(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.run("a1", make_spec(tmp_path))
    before = (runner.folder / result_file("a1")).read_bytes()
    runner.send("run", "a1", make_spec(tmp_path))
    assert "already" in runner.wait_for("error", "a1").data["message"]
    assert (runner.folder / result_file("a1")).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prompts_sha256": "0" * 64}, "sha256"),
        ({"prompts": 11}, "10 prompts"),
        ({"prompts_path": "/nowhere/prompts.jsonl"}, "/nowhere/prompts.jsonl"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_new_tokens": 200_000}, "max_model_len"),
        ({"window_s": 0.0}, "window_s"),
        ({"backend": "none-such"}, "none-such"),
        ({"sampling": {"temperatur": 1.0}}, "did you mean temperature"),
    ],
)
def test_a_run_that_cannot_be_is_a_bad_request_that_names_it(
    runner: RunnerProcess, tmp_path: Path, change: dict[str, object], text: str
) -> None:
    error = runner.run("a1", make_spec(tmp_path, **change))
    assert (error.type, error.data["kind"], error.data["fatal"]) == ("error", "bad_request", False)
    assert text in error.data["message"]
    assert runner.run("a2", make_spec(tmp_path)).type == "result"


def test_a_wrong_engine_parameter_is_a_load_failure_and_ends_the_session(runner: RunnerProcess, tmp_path: Path) -> None:
    error = runner.run("a1", make_spec(tmp_path, engine={"vocab": "many"}))
    assert (error.data["kind"], error.data["fatal"]) == ("bad_request", True)
    assert runner.wait() == 1
    assert runner.types() == ["hello", "loading", "error", "bye"]


def test_sigterm_ends_the_session_at_a_batch_boundary_with_a_bye(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.send("run", "a1", make_spec(tmp_path, window_s=3600.0))
    runner.send("go", "a1")
    runner.wait_for("window_begin", "a1")
    runner.process.send_signal(signal.SIGTERM)
    assert runner.wait() == 0
    assert runner.events()[-1].data == {"reason": "terminated"}
    assert not runner.has_result("a1")


def test_sigterm_ends_an_idle_session(runner: RunnerProcess) -> None:
    runner.wait_for("hello", "")
    runner.process.send_signal(signal.SIGTERM)
    assert runner.wait() == 0
    assert runner.types() == ["hello", "bye"]


def test_a_folder_serves_one_session(start_runner: StartRunner) -> None:
    first = start_runner()
    first.wait_for("hello", "")
    second = start_runner()
    assert second.wait() == 2
    assert "session folder" in second.stderr()
    assert first.types() == ["hello"]


def test_alive_carries_phase_and_counters_that_advance(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner(alive_period_s=0.05)
    runner.run("a1", make_spec(tmp_path, window_s=0.5, warmup=Warmup(kind="none")))
    alive = [event.data for event in runner.events() if event.type == "alive" and event.data["phase"] == "window"]
    assert len(alive) >= 4
    assert alive[-1]["batches"] > alive[0]["batches"]
    assert alive[-1]["tokens_out"] > alive[0]["tokens_out"]


def test_nothing_but_alive_is_written_during_the_window(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner(alive_period_s=0.05)
    runner.send("run", "a1", make_spec(tmp_path, window_s=0.4))
    runner.send("go", "a1")
    runner.wait_for("window_begin", "a1")
    runner.send_raw(b"garbage\n")
    runner.wait_for("result", "a1")
    types = runner.types(without_alive=False)
    inside = types[types.index("window_begin") + 1 : types.index("window_end")]
    assert set(inside) == {"alive"}
    assert not (runner.folder / requests_file("a1")).exists() or runner.has_result("a1")
    runner.wait_for("error", "")


def test_a_window_with_a_length_repeats_prompts_and_says_so(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.run("a1", make_spec(tmp_path, window_s=0.2))
    result = runner.result("a1")
    (window,) = result.windows
    assert window.t_end_ns - window.t_begin_ns >= 0.2e9
    assert window.requests == window.batches * 4
    assert any("repeated" in note for note in result.notes)


def test_warm_up_until_steady_or_capped(runner: RunnerProcess, tmp_path: Path) -> None:
    steady = Warmup(kind="steady", min_s=0.05, max_s=30.0, cv_limit=0.5)
    capped = Warmup(kind="steady", min_s=0.0, max_s=0.1, cv_limit=1e-9)
    runner.run("a1", make_spec(tmp_path, warmup=steady))
    runner.run("a2", make_spec(tmp_path, warmup=capped))
    runner.run("a3", make_spec(tmp_path, warmup=Warmup(kind="none")))
    first, second, third = (event.data for event in runner.events() if event.type == "warm")
    assert first["ended"] == "steady"
    assert first["batches"] >= 5
    assert first["duration_s"] >= 0.05
    assert second["ended"] == "capped"
    assert (third["ended"], third["batches"]) == ("none", 0)


def test_the_runner_imports_nothing_of_the_controller_and_no_engine() -> None:
    script = (
        "import sys; import lem_runner.session, lem_runner.backends.pytorch, lem_runner.prefetch; print(*sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(RUNNER_ROOT)}, capture_output=True, text=True, check=True
    )
    roots = {name.partition(".")[0] for name in out.stdout.split()}
    assert not roots & {"lemctl", "torch", "transformers", "numpy", "huggingface_hub", "pydantic"}


def test_a_watched_warm_up_goes_on_until_the_controller_says_that_the_device_is_steady(
    runner: RunnerProcess, tmp_path: Path
) -> None:
    watched = Warmup(kind="steady", max_s=30.0, cv_limit=0.9, await_device=True)
    runner.send("run", "a1", make_spec(tmp_path, warmup=watched))
    runner.wait_for("loaded", "a1")
    runner.send("go", "a1")
    # Its own rule has long been met: five batches of some 10 ms each.
    with pytest.raises(AssertionError):
        runner.wait_for("warm", "a1", ceiling_s=1.0)
    (runner.folder / protocol.steady_file("a1")).touch()
    warm = runner.wait_for("warm", "a1").data
    assert warm["ended"] == "steady"
    assert warm["duration_s"] > 0.9
    runner.wait_for("result", "a1")
    # Without a word from the controller the limit ends it, and says so.
    capped = Warmup(kind="steady", max_s=0.3, cv_limit=0.9, await_device=True)
    runner.run("a2", make_spec(tmp_path, warmup=capped))
    assert runner.wait_for("warm", "a2").data["ended"] == "capped"
