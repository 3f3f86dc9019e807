"""Whose process holds the GPU: our runner's, in a container or below the daemon, or somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from lemctl.daemon.gpu_instruments import is_ours

DAEMON = 100
CONTAINER = "4f0c1b" + "9" * 58
OTHER = "77aa77" + "0" * 58


def process(proc: Path, pid: int, parent: int, cgroup: str = "0::/user.slice\n", name: str = "python") -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 4194560 1 2 3\n")
    (folder / "cgroup").write_text(cgroup)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    process(tmp_path, 1, 0)
    process(tmp_path, DAEMON, 1)
    process(tmp_path, 90, 1, name="containerd-shim")
    return tmp_path


@pytest.mark.parametrize(
    "cgroup",
    [
        f"12:memory:/docker/{CONTAINER}\n11:cpu,cpuacct:/docker/{CONTAINER}\n1:name=systemd:/docker/{CONTAINER}\n",
        f"0::/system.slice/docker-{CONTAINER}.scope\n",
        f"0::/docker/{CONTAINER}/init\n",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{CONTAINER}.scope\n",
    ],
    ids=["v1", "v2-systemd", "v2-cgroupfs", "rootless"],
)
def test_a_process_of_the_runners_container_is_ours(proc: Path, cgroup: str) -> None:
    process(proc, 200, 90, cgroup)
    assert is_ours(200, DAEMON, CONTAINER, proc)


def test_a_process_of_another_container_is_foreign(proc: Path) -> None:
    process(proc, 200, 90, f"0::/system.slice/docker-{OTHER}.scope\n")
    assert not is_ours(200, DAEMON, CONTAINER, proc)


def test_without_a_container_only_descendants_of_the_daemon_are_ours(proc: Path) -> None:
    process(proc, 200, DAEMON)
    process(proc, 201, 200, name="odd) name (x")
    process(proc, 202, 201)
    process(proc, 300, 1)
    assert is_ours(202, DAEMON, None, proc)
    assert not is_ours(300, DAEMON, None, proc)


def test_no_container_yet_makes_nobody_ours(proc: Path) -> None:
    process(proc, 200, 90, f"0::/system.slice/docker-{OTHER}.scope\n")
    assert not is_ours(200, DAEMON, "", proc)


def test_a_process_that_has_ended_is_not_ours(proc: Path) -> None:
    assert not is_ours(999, DAEMON, CONTAINER, proc)
    assert not is_ours(999, DAEMON, None, proc)


def test_a_loop_of_parents_ends(proc: Path) -> None:
    process(proc, 400, 401)
    process(proc, 401, 400)
    assert not is_ours(400, DAEMON, None, proc)
