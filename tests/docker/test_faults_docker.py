"""What can happen to a container and to the engine under a run: each ends the attempt with its kind, the campaign goes
on, and no container is left behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_engine import PrivateEngine, docker
from victim import Victim, audit, slow

from lemctl.engines.containers import Containers
from lemctl.engines.processes import processes_on
from needed import skip_without
from night import Night, campaign_text

pytestmark = pytest.mark.docker


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


@pytest.fixture
def private_engine(engine: Containers, small_image: str) -> Iterator[PrivateEngine]:
    """Running, with the small image. Its folder's name is short: sockets lie deep in it, and 107 bytes are the most."""
    skip_without("root")
    with tempfile.TemporaryDirectory(prefix="lem-", ignore_cleanup_errors=True) as folder:
        made = PrivateEngine(Path(folder))
        try:
            made.start()
            made.load(small_image)
            yield made
        finally:
            made.end()


@pytest.mark.alone
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
