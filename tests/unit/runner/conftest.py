from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runner_process import RunnerProcess, StartRunner


@pytest.fixture
def start_runner(tmp_path: Path) -> Iterator[StartRunner]:
    """Starts sessions below `tmp_path` and ends them all."""
    started: list[RunnerProcess] = []

    def start(name: str = "session", **options: Any) -> RunnerProcess:
        runner = RunnerProcess(tmp_path / name, **options)
        started.append(runner)
        return runner

    yield start
    for runner in started:
        runner.end()


@pytest.fixture
def runner(start_runner: StartRunner) -> RunnerProcess:
    return start_runner()
