"""A device context without an engine: held while it is measured, given back before an engine loads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "nvml_stub"))

from runner_process import RunnerProcess, StartRunner, is_alive, make_spec, wait_until

from lem_runner import processes
from needed import needs
from nvml_stub import build_cuda


def holders(runner: RunnerProcess) -> list[int]:
    """Processes that hold a context for this runner."""
    return processes.descendants(runner.process.pid)


@needs("gcc")
def test_a_context_is_held_until_the_engine_is_to_load(
    start_runner: StartRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cuda(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    runner = start_runner()
    runner.send("context", "a1")
    assert runner.wait_for("context", "a1").data == {"held": True, "reason": None}
    (holder,) = holders(runner)
    runner.send("run", "a1", make_spec(tmp_path))
    runner.wait_for("loaded", "a1")
    assert not is_alive(holder)


@needs("gcc")
def test_a_context_goes_with_its_session(
    start_runner: StartRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cuda(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    runner = start_runner()
    runner.send("context", "a1")
    runner.wait_for("context", "a1")
    (holder,) = holders(runner)
    runner.send("quit")
    runner.wait()
    wait_until(lambda: not is_alive(holder), "the end of the context's holder")


@needs("gcc")
@pytest.mark.parametrize(("fails", "reason"), [(True, "cuInit answered 100"), (False, "no CUDA driver here")])
def test_no_context_says_why_and_the_session_goes_on(
    fails: bool, reason: str, start_runner: StartRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fails:
        build_cuda(tmp_path)
        monkeypatch.setenv("CUDA_STUB_FAILS", "1")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    runner = start_runner()
    runner.send("context", "a1")
    told = runner.wait_for("context", "a1").data
    assert told["held"] is False
    assert reason in told["reason"]
    assert runner.run("a1", make_spec(tmp_path)).type == "result"
