"""What the controller sees of each fault: the replay backend's switches, each doing what its name says."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from runner_process import RunnerProcess, StartRunner, make_spec, wait_until

from lem_runner.protocol import EXIT_ORPHANED, ContractError, Warmup


def start_faulty(runner: RunnerProcess, tmp_path: Path, fault: str, **engine: object) -> None:
    """An attempt on an engine with this fault, sent on its way without waiting for anything."""
    runner.send("run", "a1", make_spec(tmp_path, engine={"fault": fault, **engine}))
    runner.send("go", "a1")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("error", "engine_error"), ("oom_gpu", "oom_gpu"), ("oom_host", "oom_host"), ("bad_request", "bad_request")],
)
@pytest.mark.parametrize("at", ["warmup", "window", "result"])
def test_what_an_engine_raises_ends_the_attempt_with_its_kind_and_the_session_goes_on(
    runner: RunnerProcess, tmp_path: Path, fault: str, kind: str, at: str
) -> None:
    spec = make_spec(tmp_path, engine={"fault": fault, "fault_at": at, "fault_on": 1})
    error = runner.run("a1", spec)
    assert (error.type, error.data["kind"], error.data["fatal"]) == ("error", kind, False)
    assert "\n" not in error.data["message"]
    assert "_faults.py" in error.data["traceback"]
    assert len(error.data["traceback"]) <= 8_000
    assert ("window_begin" in runner.types()) == (at != "warmup")
    assert not runner.has_result("a1")
    assert runner.run("a2", spec).type == "result"


@pytest.mark.parametrize(
    ("fault", "kind"), [("error", "engine_error"), ("oom_gpu", "oom_gpu"), ("oom_host", "oom_host")]
)
def test_a_failure_to_load_is_fatal(runner: RunnerProcess, tmp_path: Path, fault: str, kind: str) -> None:
    start_faulty(runner, tmp_path, fault, fault_at="load")
    error = runner.wait_for("error", "a1")
    assert (error.data["kind"], error.data["fatal"]) == (kind, True)
    assert runner.wait() == 1
    assert runner.types()[-1] == "bye"


def test_hang_keeps_telling_that_nothing_advances_and_ends_with_stdin(
    start_runner: StartRunner, tmp_path: Path
) -> None:
    runner = start_runner(alive_period_s=0.05)
    start_faulty(runner, tmp_path, "hang", fault_batch=1)
    runner.wait_for("window_begin", "a1")

    def told_alike() -> bool:
        told = [event.data for event in runner.events() if event.type == "alive" and event.data["phase"] == "window"]
        return len(told) > 3 and told[-3:] == [told[-1]] * 3

    wait_until(told_alike, "three equal alives")
    runner.close_stdin()
    assert runner.wait(1.0) == EXIT_ORPHANED


def test_silent_stops_every_event_and_only_a_kill_ends_it(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner(alive_period_s=0.05)
    start_faulty(runner, tmp_path, "silent")
    runner.wait_for("window_begin", "a1")
    count = len(runner.lines())
    time.sleep(0.5)
    assert len(runner.lines()) <= count + 1
    assert runner.process.poll() is None
    runner.process.kill()
    assert runner.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("fault", "code"), [("exit", 0), ("kill", -signal.SIGKILL)])
@pytest.mark.parametrize("at", ["load", "window", "result"])
def test_a_process_that_is_gone_leaves_no_result_and_no_bye(
    runner: RunnerProcess, tmp_path: Path, fault: str, code: int, at: str
) -> None:
    start_faulty(runner, tmp_path, fault, fault_at=at)
    assert runner.wait() == code
    assert not runner.has_result("a1")
    assert "bye" not in runner.types()


def test_no_result_ends_politely_without_one(runner: RunnerProcess, tmp_path: Path) -> None:
    start_faulty(runner, tmp_path, "no_result", fault_at="result")
    assert runner.wait() == 0
    assert runner.types()[-2:] == ["window_end", "bye"]
    assert not runner.has_result("a1")


def test_garbage_is_no_event(runner: RunnerProcess, tmp_path: Path) -> None:
    start_faulty(runner, tmp_path, "garbage")
    wait_until(lambda: any(b'"result"' in line for line in runner.lines()), "the result")
    with pytest.raises(ContractError):
        runner.events()


def test_gap_leaves_a_number_out(runner: RunnerProcess, tmp_path: Path) -> None:
    start_faulty(runner, tmp_path, "gap")
    runner.wait_for("result", "a1")
    numbers = [event.seq for event in runner.events()]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == len(numbers)


def test_truncated_result_does_not_match_what_was_said(runner: RunnerProcess, tmp_path: Path) -> None:
    start_faulty(runner, tmp_path, "truncated_result", fault_at="result")
    runner.wait_for("result", "a1")
    with pytest.raises(ValueError):
        runner.result("a1")


def test_huge_output_reaches_stdout_and_the_run_still_succeeds(runner: RunnerProcess, tmp_path: Path) -> None:
    start_faulty(runner, tmp_path, "huge_output", fault_mb=20)
    assert runner.wait_for("result", "a1").type == "result"
    assert (runner.folder / "stdout.log").stat().st_size >= 20 << 20


def test_ignore_cancel_goes_on(runner: RunnerProcess, tmp_path: Path) -> None:
    runner.send("run", "a1", make_spec(tmp_path, engine={"fault": "ignore_cancel"}))
    runner.send("go", "a1")
    runner.send("cancel", "a1")
    assert runner.wait_for("result", "a1").type == "result"


def test_child_holds_stdout_outlives_the_runner(runner: RunnerProcess, tmp_path: Path) -> None:
    start_faulty(runner, tmp_path, "child_holds_stdout", fault_child_s=1.5)
    assert runner.wait() == 1
    held = str(runner.folder / "stdout.log")

    def holders() -> list[Path]:
        links = Path("/proc").glob("[0-9]*/fd/1")
        return [link for link in links if _target(link) == held]

    assert holders()
    wait_until(lambda: not holders(), "the child's end", 10.0)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_alloc_takes_memory_for_real(runner: RunnerProcess, tmp_path: Path) -> None:
    error = runner.run("a1", make_spec(tmp_path, engine={"fault": "alloc", "fault_mb": 200, "fault_on": 1}))
    assert error.data["kind"] == "oom_host"
    peak_b = (
        int(
            next(
                line.split()[1]
                for line in Path(f"/proc/{runner.process.pid}/status").read_text().splitlines()
                if line.startswith("VmHWM")
            )
        )
        * 1024
    )
    assert peak_b > 200 << 20


def test_a_marker_lets_the_fault_happen_once_over_all_sessions(start_runner: StartRunner, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, engine={"fault": "exit", "fault_marker": "once"})
    first, second = start_runner("s1"), start_runner("s2")
    first.send("run", "a1", spec)
    first.send("go", "a1")
    assert first.wait() == 0
    assert (tmp_path / "once").exists()
    assert second.run("a2", spec).type == "result"


def test_fault_on_counts_attempts_of_the_session(runner: RunnerProcess, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, engine={"fault": "error", "fault_on": 2}, warmup=Warmup(kind="none"))
    assert [runner.run(name, spec).type for name in ("a1", "a2", "a3")] == ["result", "error", "result"]
