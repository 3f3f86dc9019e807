"""A newcomer adds a backend by one file in the runner, one row in the table and one service: done here on a copy, and a
campaign runs on it in a container and as a child process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120

TOY = '''
"""An engine that repeats its prompt."""

import time
from typing import Literal

from lem_runner.backends import Engine, Generated

PACKAGES: tuple[str, ...] = ()
OWNS_CUDA: Literal["engine", "torch"] = "engine"
LOADS = ("offline",)


class Toy(Engine):
    def load(self, spec):
        self.spec = spec

    def generate(self, prompts, decoding, seed):
        time.sleep(0.01)
        now_ns = time.monotonic_ns()
        count = decoding.max_new_tokens
        return [Generated((p.ids * count)[:count], now_ns, now_ns, [now_ns] * count, "length") for p in prompts]


def open():
    return Toy()


def describe():
    return []
'''
ROW = '        Backend("toy", "toy", "python:3.11-slim-bookworm", "/usr/local/bin/python"),\n'
SERVICE = """  toy:
    <<: *engine
    image: ${LEM_IMAGE_TOY:?}

"""
CAMPAIGN = """
name: toy
model: "random:{vocab_size: 100}"
backend: toy
preset: quick-test
workload: {dataset: random, random: {input_len: 4}, prompts: 3, max_new_tokens: 5}
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with the toy added: exactly three touches."""
    copy = tmp_path / "checkout"
    for name in ("controller", "runner", "images", "campaigns"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "compose.gpu.yaml", copy / "compose.gpu.yaml")
    (copy / "runner/lem_runner/backends/toy.py").write_text(TOY)
    _insert(copy / "controller/lemctl/engines/backends.py", '        Backend("replay"', ROW)
    shutil.copyfile(ROOT / "compose.yaml", copy / "compose.yaml")
    _insert(copy / "compose.yaml", "  pytorch:\n    <<: *engine", SERVICE)
    return copy


def _insert(path: Path, before: str, text: str) -> None:
    source = path.read_text()
    assert source.count(before) == 1, f"{path.name} has changed its shape: mend this test's place of insertion"
    path.write_text(source.replace(before, text + before))


@pytest.fixture
def environment(tmp_path: Path, copy: Path, small_image: str) -> Iterator[dict[str, str]]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{copy / 'controller'}:{copy / 'runner'}",
        "LEM_HOME": str(tmp_path / "home"),
        "LEM_LOCK_DIR": str(tmp_path / "locks"),
        "LEM_IMAGE_TOY": small_image,
    }
    yield environment
    subprocess.run(_lemctl("daemon", "stop"), env=environment, timeout=TIMEOUT_S, check=False, capture_output=True)


def _lemctl(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from lemctl.cli.main import main; sys.exit(main())", *arguments]


@pytest.mark.docker
@pytest.mark.parametrize("executor", ["docker", "local"])
def test_three_touches_make_a_backend(executor: str, tmp_path: Path, environment: dict[str, str]) -> None:
    campaign = tmp_path / "toy.yaml"
    campaign.write_text(CAMPAIGN)
    start = _lemctl("campaign", "start", str(campaign), "--executor", executor, "--prefetch", "--wait")
    done = subprocess.run(start, env=environment, timeout=TIMEOUT_S, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = subprocess.run(
        _lemctl("report", "toy"), env=environment, timeout=TIMEOUT_S, check=True, capture_output=True, text=True
    )
    assert "1 VALID" in report.stdout
    assert "15" in report.stdout  # 3 requests of 5 tokens
