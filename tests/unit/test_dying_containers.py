"""What a runner in a container died of, told by a container that dies with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lemctl.engines import docker
from lemctl.engines.containers import ContainerFacts, ContainerSpec
from lemctl.engines.session import Death

SPEC = ContainerSpec("lem", "replay", (), {}, "home")
RUNNING = ContainerFacts("id", "lem", "p", "s", "sha256:1", "running", None, False, None, 1)
KILLED = replace(RUNNING, state="exited", exit_code=137, pid=None)
FOR_MEMORY = replace(KILLED, oom_killed=True)
STOPPED = replace(KILLED, exit_code=143)


class Engine:
    """Tells these facts one after another, the last one again and again; the group goes with the `gone`th look."""

    def __init__(self, counter: Path | None, facts: Sequence[ContainerFacts], gone: int | None = None):
        self.counter, self.gone = counter, gone
        self.facts = list(facts)
        self.looks = self.asked = 0

    def oom_counter(self, _container_id: str) -> Path | None:
        self.asked += 1
        return self.counter

    def inspect(self, _container_id: str) -> ContainerFacts:
        self.looks += 1
        if self.looks == self.gone and self.counter is not None:
            self.counter.unlink()
        return self.facts.pop(0) if len(self.facts) > 1 else self.facts[0]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "DYING_S", 0.3)


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    path = tmp_path / "memory.events"
    path.write_text("oom 0\noom_kill 0\n")
    return path


def death(tmp_path: Path, engine: Any, code: int = 137, grow: Path | None = None) -> Death:
    """Of a runner whose client ended with that code, after the count grew."""
    command = ["sh", "-c", f"exit {code}"]
    runner = docker.DockerRunner(command, tmp_path, engine, SPEC, "id", lambda: None)
    if grow is not None:
        grow.write_text("oom 1\noom_kill 1\n")
    assert runner.wait(10)
    found = runner.poll()
    assert found is not None
    return found


def test_a_count_that_grew_is_memory(tmp_path: Path, counter: Path) -> None:
    """The file is looked for while the container lives, once: of a dead process version 1 of the kernel's interface
    says that it is in the root group, which counts what others ran out of."""
    engine = Engine(counter, [RUNNING])
    assert death(tmp_path, engine, grow=counter).kind == "oom_host"
    assert engine.asked == 1


def test_a_kill_without_a_count_that_grew_is_from_outside(tmp_path: Path, counter: Path) -> None:
    engine = Engine(counter, [RUNNING])
    assert death(tmp_path, engine) == Death("infra", "the runner was killed by SIGKILL from outside")
    assert engine.looks == 1


@pytest.mark.parametrize("still", [[RUNNING], [RUNNING, KILLED], [KILLED, KILLED]])
def test_a_group_that_went_with_its_container_is_waited_for(
    tmp_path: Path, counter: Path, still: list[ContainerFacts]
) -> None:
    engine = Engine(counter, [*still, FOR_MEMORY], gone=1)
    assert death(tmp_path, engine) == Death("oom_host", "the container was out of memory")


def test_a_dead_container_whose_count_grew_was_out_of_memory(tmp_path: Path, counter: Path) -> None:
    engine = Engine(counter, [KILLED])
    assert death(tmp_path, engine, grow=counter) == Death("oom_host", "the container was out of memory")


def test_a_container_that_was_killed_is_not_out_of_memory(tmp_path: Path, counter: Path) -> None:
    found = death(tmp_path, Engine(counter, [RUNNING, KILLED], gone=1))
    assert found == Death("infra", "the container stopped under the runner (exit code 137)")


def test_a_container_that_was_stopped_is_told_at_once(tmp_path: Path, counter: Path) -> None:
    engine = Engine(counter, [STOPPED])
    assert death(tmp_path, engine) == Death("infra", "the container stopped under the runner (exit code 143)")
    assert engine.looks == 1


def test_a_host_that_does_not_tell_its_count_is_not_waited_for(tmp_path: Path) -> None:
    engine = Engine(None, [RUNNING])
    assert death(tmp_path, engine).kind == "infra"
    assert engine.looks == 1
