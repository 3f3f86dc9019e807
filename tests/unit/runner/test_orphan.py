"""When the controller is gone the runner and everything below it ends, whatever the engine is doing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from runner_process import RunnerProcess, StartRunner, is_alive, make_spec, wait_until
from toy_backend import runner_with_backend

from lem_runner.protocol import EXIT_ORPHANED, LEASE_FILE
from lem_runner.watch import FileAge

#: Starts a child in a session of its own and a grandchild whose parent has gone, then stays in native code.
BUSY_WITH_CHILDREN = """
import subprocess, time
from pathlib import Path
from lem_runner.backends import Engine

PACKAGES = ()
OWNS_CUDA = "engine"
LOADS = ("offline",)

class Busy(Engine):
    def load(self, spec):
        child = subprocess.Popen(["sleep", "300"], start_new_session=True)
        script = "setsid sleep 300 >/dev/null 2>&1 & echo $!"
        orphan = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True).stdout
        Path(spec.engine["pids"]).write_text(f"{child.pid} {orphan}")

    def generate(self, prompts, decoding, seed):
        time.sleep(300)

def open():
    return Busy()

def describe():
    return []
"""


def test_end_of_stdin_ends_an_idle_runner_with_its_own_code(runner: RunnerProcess) -> None:
    runner.wait_for("hello", "")
    begin_s = time.monotonic()
    runner.close_stdin()
    assert runner.wait() == EXIT_ORPHANED
    assert time.monotonic() - begin_s < 1.0


def test_end_of_stdin_ends_a_busy_runner_and_its_whole_tree_within_a_second(
    start_runner: StartRunner, tmp_path: Path
) -> None:
    pids_path = tmp_path / "pids"
    runner = start_runner(package_root=runner_with_backend(tmp_path, "busy", BUSY_WITH_CHILDREN))
    runner.send("run", "a1", make_spec(tmp_path, backend="busy", engine={"pids": str(pids_path)}))
    runner.send("go", "a1")
    runner.wait_for("loaded", "a1")
    pids = [int(pid) for pid in pids_path.read_text().split()]
    assert len(pids) == 2
    assert all(is_alive(pid) for pid in pids)
    begin_s = time.monotonic()
    runner.close_stdin()
    assert runner.wait() == EXIT_ORPHANED
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the children's end", 1.0)
    assert time.monotonic() - begin_s < 1.0


def test_quit_ends_the_children_too(start_runner: StartRunner, tmp_path: Path) -> None:
    pids_path = tmp_path / "pids"
    runner = start_runner(package_root=runner_with_backend(tmp_path, "busy", BUSY_WITH_CHILDREN))
    runner.send("run", "a1", make_spec(tmp_path, backend="busy", engine={"pids": str(pids_path)}))
    runner.wait_for("loaded", "a1")
    assert runner.quit() == 0
    wait_until(lambda: not any(is_alive(int(pid)) for pid in pids_path.read_text().split()), "the children's end")


def test_a_lease_that_is_not_touched_ends_the_runner(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner(lease_limit_s=0.6)
    lease = runner.folder / LEASE_FILE
    runner.wait_for("hello", "")
    deadline_s = time.monotonic() + 1.5
    past_s = 1_000_000
    while time.monotonic() < deadline_s:
        # Far in the past and never the same: only the change counts, not what the wall clock says.
        past_s -= 1
        lease.touch()
        os.utime(lease, (past_s, past_s))
        time.sleep(0.1)
    assert runner.process.poll() is None
    begin_s = time.monotonic()
    assert runner.wait() == EXIT_ORPHANED
    assert 0.3 < time.monotonic() - begin_s < 2.0
    assert "lease" in runner.stderr()


def test_a_lease_that_was_never_there_counts_from_the_start(start_runner: StartRunner) -> None:
    runner = start_runner(lease_limit_s=0.4)
    assert runner.wait() == EXIT_ORPHANED


@pytest.mark.parametrize("vanishes", [True, False])
def test_a_files_age_counts_from_the_last_change(vanishes: bool) -> None:
    age = FileAge(now_s=100.0)
    assert age.observe((1,), 110.0) == 0.0
    assert age.observe((1,), 150.0) == 40.0
    assert age.observe((0,), 151.0) == 0.0
    last = None if vanishes else (0,)
    seen = age.observe(last, 152.0)
    assert seen == (0.0 if vanishes else 1.0)
    assert age.observe(last, 212.0) == 60.0 + seen
