"""An engine that is away, or hangs: one clear error, soon, and nothing left behind. Needs no engine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lem_runner.oom import oom_counter, read_oom_kills
from lemctl.engines.containers import Containers
from lemctl.engines.errors import EngineUnavailable
from night import Night, campaign_text

ROOT = Path(__file__).parents[2]

needs_client = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")


@pytest.fixture
def hung_engine(tmp_path: Path) -> Iterator[str]:
    """A socket that takes connections and never answers."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(0.1)
        done = threading.Event()
        taken: list[socket.socket] = []

        def take() -> None:
            while not done.is_set():
                try:
                    taken.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        yield f"unix://{path}"
        done.set()
        thread.join()
        for connection in taken:
            connection.close()


@needs_client
def test_a_dead_engine_is_said_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match="no Docker engine answers"):
        Containers(f"unix://{tmp_path}/nobody.sock").ping()
    assert time.monotonic() - began < 10


@needs_client
def test_a_hung_engine_hangs_nobody_and_leaves_no_client(hung_engine: str) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match="did not answer in time while listing containers"):
        Containers(hung_engine, call_timeout_s=1).leftovers("abc")
    assert time.monotonic() - began < 15
    assert {process.pid for process in psutil.Process().children(recursive=True)} == before


def test_a_missing_client_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="docker client is not installed"):
        Containers().ping()


@needs_client
def test_the_engine_script_starts_nothing_behind_docker_host(tmp_path: Path) -> None:
    env = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock", "XDG_CACHE_HOME": str(tmp_path)}
    script = str(ROOT / "scripts" / "docker-engine.sh")
    done = subprocess.run([script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == "docker: the engine that DOCKER_HOST or DOCKER_CONTEXT names does not answer\n"


@pytest.mark.parametrize(
    ("cgroup_line", "counter_file"),
    [
        ("0::/system.slice/docker-abc.scope", "system.slice/docker-abc.scope/memory.events"),
        ("5:memory:/docker/abc", "memory/docker/abc/memory.oom_control"),
        ("5:cpu,memory:/docker/abc", "memory/docker/abc/memory.oom_control"),
    ],
)
def test_memory_kills_are_read_in_both_versions_of_the_kernels_interface(
    tmp_path: Path, cgroup_line: str, counter_file: str
) -> None:
    (tmp_path / "proc" / "42").mkdir(parents=True)
    (tmp_path / "proc" / "42" / "cgroup").write_text(f"9:cpuset:/other\n{cgroup_line}\n")
    counters = tmp_path / "cgroup" / counter_file
    counters.parent.mkdir(parents=True)
    counters.write_text("under_oom 0\noom 5\noom_kill 3\n")
    found = oom_counter(42, tmp_path / "cgroup", tmp_path / "proc")
    assert found == counters
    assert read_oom_kills(found) == 3
    assert oom_counter(43, tmp_path / "cgroup", tmp_path / "proc") is None


@needs_client
def test_a_campaign_waits_for_an_engine_that_is_away_and_burns_no_retry(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/nobody.sock"
    with Night(tmp_path / "night", {"DOCKER_HOST": nowhere}) as night:
        night.add(campaign_text(), executor="docker")
        night.begin()
        night.wait_for(
            lambda: "no Docker engine" in night.waits_for(),
            "word that the engine is away",
        )
        assert night.attempts() == []
        assert night.statuses() == ["Queued"]
        assert night.campaign() == "Active"
        assert night.end() == 0
        night.audit()
