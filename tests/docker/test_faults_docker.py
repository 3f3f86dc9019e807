"""What can happen to a container and to the engine under a run: each ends the attempt with its kind, the campaign goes
on, and no container is left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lemctl.engines.containers import Containers
from lemctl.engines.processes import processes_on
from night import Night, campaign_text

pytestmark = pytest.mark.docker


def slow(name: str, more: str = "retry: {max: 1}") -> str:
    """One run of some 2 s."""
    return campaign_text(name, more=more).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 100")


def docker(*arguments: str, host: str | None = None) -> str:
    """The plain client."""
    command = ["docker", *(["--host", host] if host else []), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def audit(night: Night, engine: Containers) -> None:
    assert engine.leftovers(night.home.hash) == []
    night.audit()


@pytest.fixture(scope="module")
def faulty(engine: Containers, small_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """One daemon for all faults of containers; at the end nothing of it is left."""
    variables = {"LEM_IMAGE_REPLAY": small_image, "LEM_CONTAINER_MEMORY": "128m"}
    with Night(tmp_path_factory.mktemp("docker"), variables) as night:
        night.begin()
        yield night
        night.end()
        audit(night, engine)
    engine.sweep(night.home.hash)


class Victim:
    """A run under way in a container."""

    def __init__(self, night: Night, name: str):
        self.night = night
        night.add(slow(name), executor="docker")
        self.name = name
        night.wait_for(lambda: "Running" in night.statuses(name), f"run of {name}")
        row = night.rows("SELECT container_id, hello FROM sessions WHERE ended_utc IS NULL AND hello IS NOT NULL")[0]
        self.container: str = row[0]
        self.pid: int = json.loads(row[1])["pid"]

    def attempts(self) -> list[tuple[Any, ...]]:
        """At its end: outcome, fault, message of each."""
        self.night.wait_campaign(name=self.name)
        sql = (
            "SELECT outcome, fault, message FROM attempts a JOIN runs r ON r.id = a.run_id"
            " JOIN campaigns c ON c.id = r.campaign_id WHERE c.name = ? ORDER BY a.id"
        )
        return self.night.rows(sql, self.name)


def test_a_killed_container_fails_the_attempt_and_the_next_one_gets_another(faulty: Night) -> None:
    victim = Victim(faulty, "killed")
    docker("kill", victim.container)
    first, second = victim.attempts()
    assert first == ("failed", "infra", "the container stopped under the runner (exit code 137)")
    assert second[0] == "ok"


def test_a_container_restarted_under_the_runner_fails_the_attempt(faulty: Night) -> None:
    victim = Victim(faulty, "restarted")
    docker("restart", "--time", "0", victim.container)
    first, second = victim.attempts()
    assert first[:2] == ("failed", "infra")
    assert second[0] == "ok"


def test_a_runner_killed_in_its_container_fails_the_attempt(faulty: Night) -> None:
    victim = Victim(faulty, "runner")
    docker("exec", victim.container, "sh", "-c", f"kill -s KILL {victim.pid}")
    first, second = victim.attempts()
    assert first == ("failed", "infra", "the runner was killed by SIGKILL from outside")
    assert second[0] == "ok"


def test_a_removed_container_fails_the_attempt(faulty: Night) -> None:
    victim = Victim(faulty, "removed")
    docker("rm", "--force", victim.container)
    first, second = victim.attempts()
    assert first[:2] == ("failed", "infra")
    assert second[0] == "ok"


def test_a_runner_out_of_memory_in_its_container_is_an_answer(faulty: Night) -> None:
    faulty.add(campaign_text("memory", engine="fault: alloc, fault_mb: 2000"), executor="docker")
    faulty.add(campaign_text("after"), executor="docker")
    faulty.wait_campaign(name="after")
    assert faulty.statuses("memory") == ["Failed"]
    assert faulty.statuses("after") == ["Done"]
    assert ("failed", "oom_host", "the kernel ended the runner for want of memory") in faulty.attempts()


def test_isolation_container_gives_each_run_its_own(faulty: Night) -> None:
    faulty.add(campaign_text("isolated", cycles=2, more="isolation: container"), executor="docker")
    faulty.wait_campaign(name="isolated")
    containers = faulty.rows("SELECT container_id FROM sessions WHERE isolation = 'container'")
    assert len(set(containers)) == 2


def test_another_executor_takes_over_the_device_of_the_same_daemon(faulty: Night) -> None:
    faulty.add(campaign_text("docked"), executor="docker")
    faulty.add(campaign_text("local"), executor="local")
    faulty.wait_campaign(name="local")
    assert faulty.statuses("docked") == faulty.statuses("local") == ["Done"]


@pytest.fixture
def alone(engine: Containers, small_image: str, tmp_path: Path) -> Iterator[Night]:
    """A daemon of its own."""
    with Night(tmp_path, {"LEM_IMAGE_REPLAY": small_image}) as night:
        yield night
    engine.sweep(night.home.hash)


def test_a_killed_daemon_leaves_a_container_and_the_next_one_sweeps_it(alone: Night, engine: Containers) -> None:
    alone.begin()
    victim = Victim(alone, "night")
    alone.kill()
    assert [c.id for c in engine.leftovers(alone.home.hash)] == [victim.container]
    alone.begin()
    assert [outcome for outcome, *_ in victim.attempts()] == ["interrupted", "ok"]
    alone.end()
    audit(alone, engine)


def test_a_container_kept_warm_by_a_killed_daemon_is_swept_though_no_session_is_open(
    alone: Night, engine: Containers
) -> None:
    """Its session had ended well, nothing in the database is unfinished."""
    alone.add(campaign_text(more="isolation: process"), executor="docker")
    alone.begin()
    alone.wait_campaign()
    alone.kill()
    assert len(engine.leftovers(alone.home.hash)) == 1
    daemon = alone.begin()
    alone.wait_until_serving(daemon.pid)
    assert engine.leftovers(alone.home.hash) == []
    alone.end()
    audit(alone, engine)


class PrivateEngine:
    """A Docker engine of our own beside the machine's, that survives as its containers do: `--live-restore`."""

    def __init__(self, folder: Path):
        self.host = f"unix://{folder}/docker.sock"
        self._command = [
            # A network of its own: an engine without a bridge removes the one that it finds, the machine's.
            "unshare", "--net", "dockerd", "--live-restore", "--bridge=none", "--iptables=false",
            "--host", self.host, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
            "--pidfile", f"{folder}/docker.pid",
        ]  # fmt: skip
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers. Files that name the processes of a killed engine would make it wait for zombies."""
        for stale in ("docker.pid", "exec/containerd/containerd.pid"):
            (self._folder / stale).unlink(missing_ok=True)
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 30
        while subprocess.run(["docker", "--host", self.host, "info"], capture_output=True, check=False).returncode:
            assert time.monotonic() < until, (self._folder / "dockerd.log").read_text()[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL; its containers run on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """With its containers, and the mount that it makes of its own folder."""
        assert self._process is not None
        if self._process.poll() is None:
            docker("container", "prune", "--force", host=self.host)
            for container in docker("ps", "--quiet", host=self.host).split():
                docker("rm", "--force", container, host=self.host)
        self._process.terminate()
        self._process.wait(30)
        subprocess.run(["umount", f"{self._folder}/data"], capture_output=True, check=False)


@pytest.fixture
def private_engine(engine: Containers, small_image: str) -> Iterator[PrivateEngine]:
    """Running, with the small image. Its folder's name is short: sockets lie deep in it, and 107 bytes are the most."""
    if os.getuid() != 0:
        pytest.skip("an engine of its own needs root")
    with tempfile.TemporaryDirectory(prefix="lem-", ignore_cleanup_errors=True) as folder:
        made = PrivateEngine(Path(folder))
        try:
            made.start()
            with subprocess.Popen(["docker", "save", small_image], stdout=subprocess.PIPE) as saved:
                subprocess.run(
                    ["docker", "--host", made.host, "load"], stdin=saved.stdout, check=True, capture_output=True
                )
            yield made
        finally:
            made.end()


def test_a_killed_docker_engine_fails_the_attempt_and_no_runner_works_beside_the_next(
    private_engine: PrivateEngine, small_image: str, tmp_path: Path
) -> None:
    """The container and the runner in it outlive the engine; the next attempt must not share them."""
    # Waits of 2, 12 and 48 s before the tries: the engine is back after the first.
    variables = {
        "LEM_IMAGE_REPLAY": small_image,
        "DOCKER_HOST": private_engine.host,
        "LEM_RETRY_BACK_OFF_SCALE": "0.4",
    }
    with Night(tmp_path / "night", variables) as night:
        night.begin()
        night.add(slow("night", "retry: {max: 3}"), executor="docker")
        night.wait_until_under_way()
        ((container,),) = night.rows("SELECT container_id FROM sessions")
        private_engine.kill()
        night.wait_for(lambda: night.attempts()[0][0] is not None, "end of the attempt")
        private_engine.start()
        night.wait_campaign(ceiling_s=60)
        ended, *_, last = night.attempts()
        assert ended[:2] == ("failed", "infra")
        assert "Docker engine" in str(ended[2])
        assert last[0] == "ok"
        containers = [c for (c,) in night.rows("SELECT container_id FROM sessions WHERE hello IS NOT NULL ORDER BY id")]
        assert containers[-1] != container
        assert night.end() == 0
        audit(night, Containers(private_engine.host))
        assert processes_on(night.home.sessions) == []
