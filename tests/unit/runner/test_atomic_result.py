"""A kill at any moment leaves no result or a whole one."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runner_process import StartRunner, make_spec

from lem_runner.protocol import EVENTS_FILE, Command
from lem_runner.results import requests_file, result_file


def test_sigkill_at_random_moments_leaves_no_result_or_a_whole_one(start_runner: StartRunner, tmp_path: Path) -> None:
    """Kills fall from `go` to a little after the time that a whole attempt was measured to take."""
    draw = random.Random(1)
    spec = make_spec(tmp_path, lengths=[3] * 400, batch_size=400, engine={"decode_ms_per_token": 0.0})
    measured = start_runner("measured")
    said = measured.run("a1", spec)
    whole_s = (said.t_mono_ns - measured.wait_for("loaded", "a1").t_mono_ns) / 1e9
    outcomes = []
    for number in range(30):
        runner = start_runner(f"s{number}")
        runner.send("run", "a1", spec)
        runner.wait_for("loaded", "a1")
        runner.send("go", "a1")
        time.sleep(draw.uniform(0, 1.2 * whole_s))
        runner.process.kill()
        runner.wait()
        outcomes.append(runner.has_result("a1"))
        if runner.has_result("a1"):
            result = runner.result("a1")
            content = (runner.folder / requests_file("a1")).read_bytes()
            assert hashlib.sha256(content).hexdigest() == result.requests_sha256
            assert len(content.splitlines()) == result.requests == 400
        else:
            assert "result" not in runner.types()
    assert not all(outcomes), "no kill came early enough to prove anything"


def test_a_result_that_is_said_is_there(start_runner: StartRunner, tmp_path: Path) -> None:
    runner = start_runner()
    said = runner.run("a1", make_spec(tmp_path)).data
    runner.process.kill()
    content = (runner.folder / said["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == said["sha256"]
    assert not list(runner.folder.glob(".*.tmp"))


@pytest.mark.parametrize("limit_b", [900, 4_000])
def test_a_full_disk_ends_the_session_without_a_result_and_without_a_lie(tmp_path: Path, limit_b: int) -> None:
    """A limit on file size stands in for a full disk: the write fails in the same place, with an errno."""
    folder = tmp_path / "session"
    folder.mkdir()
    spec = make_spec(tmp_path, lengths=[3] * 50)
    commands = Command("run", "a1", spec).encode() + Command("go", "a1").encode()
    process = subprocess.Popen(
        [sys.executable, "-c", _LIMITED.format(limit_b=limit_b), str(folder)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(commands)
    process.stdin.flush()
    try:
        assert process.wait(20) == 74
        assert b"cannot be written" in process.stderr.read()
    finally:
        process.kill()
        process.stdin.close()
        process.stderr.close()
    assert not (folder / result_file("a1")).exists()
    assert b'"bye"' not in (folder / EVENTS_FILE).read_bytes()


_LIMITED = """
import os, pathlib, resource, signal, sys
from lem_runner.session import run_session
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_b}, {limit_b}))
os._exit(run_session(pathlib.Path(sys.argv[-1])))
"""
