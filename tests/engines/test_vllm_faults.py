"""What goes wrong in vLLM's own processes reaches the controller with its kind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vllm_sessions
from runner_process import RunnerProcess, wait_until
from vllm_sessions import error, open_session, spec_of

from lem_runner.processes import descendants
from lem_runner.protocol import ModelRef

pytestmark = pytest.mark.engine


@pytest.fixture
def new_session(vllm_python: str, tmp_path: Path) -> Iterator[RunnerProcess]:
    runner = open_session(tmp_path / "session", vllm_python)
    yield runner
    runner.end()


def random_spec(folder: Path, **changes: Any) -> Any:
    shape = ModelRef("random", "tiny-llama", config=vllm_sessions.SHAPE)
    return spec_of(folder, shape, **changes)


def test_an_engine_process_that_is_killed_ends_the_session_with_its_kind(
    new_session: RunnerProcess, tmp_path: Path
) -> None:
    spec = random_spec(tmp_path, work={"mode": "closed", "concurrency": 4}, window_s=600.0)
    new_session.send("run", "a", spec)
    new_session.wait_for("loaded", "a", vllm_sessions.CEILING_S)
    new_session.send("go", "a")
    new_session.wait_for("window_begin", "a", vllm_sessions.CEILING_S)
    heaviest = max(descendants(new_session.process.pid), key=_resident)
    os.kill(heaviest, signal.SIGKILL)
    said = new_session.wait_for("error", "a", vllm_sessions.CEILING_S).data
    assert (said["kind"], said["fatal"]) == ("engine_error", True)
    wait_until(lambda: new_session.process.poll() is not None, "the end of the session", 60)
    assert new_session.types()[-1] == "bye"


def test_what_kills_the_engines_process_at_its_start_is_told_in_its_own_words(
    new_session: RunnerProcess, tmp_path: Path
) -> None:
    said = error(new_session, random_spec(tmp_path, engine={"kv_cache_memory_bytes": 1000}))
    assert (said["kind"], said["fatal"]) == ("oom_gpu", True)
    assert "No available memory for the cache blocks" in said["message"]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
