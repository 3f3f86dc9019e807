"""A newcomer adds an engine by adding one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runner_process import StartRunner, make_spec
from toy_backend import runner_with_backend

from lem_runner import backends
from lem_runner.failures import BadRequestError

TOY = '''
"""Repeats the prompt."""
import os, time
from pathlib import Path
from lem_runner.backends import Engine, Generated
from lem_runner.parameters import Parameter

PACKAGES = ("pytest", "no-such-distribution")
OWNS_CUDA = "engine"
LOADS = ("offline",)
Path(os.environ["TOY_IMPORTED"]).touch()

class Toy(Engine):
    def load(self, spec):
        print("toy: loaded")

    def generate(self, prompts, decoding, seed):
        now_ns = time.monotonic_ns()
        count = decoding.max_new_tokens
        return [Generated((prompt.ids * count)[:count], None, now_ns, None, "length") for prompt in prompts]

def open():
    return Toy()

def describe():
    return [Parameter("volume", "int", 11, "engine", minimum=0, maximum=11)]
'''


def test_one_new_file_is_a_backend(start_runner: StartRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = tmp_path / "imported"
    monkeypatch.setenv("TOY_IMPORTED", str(imported))
    runner = start_runner(package_root=runner_with_backend(tmp_path, "toy", TOY))
    hello = runner.wait_for("hello", "").data
    assert "toy" in hello["backends"]
    assert hello["packages"]["pytest"] == pytest.__version__
    assert "no-such-distribution" not in hello["packages"]
    assert not imported.exists(), "hello imported a backend"
    assert runner.run("a1", make_spec(tmp_path, backend="toy")).type == "result"
    assert imported.exists()
    assert [record.tokens_out for record in runner.requests("a1")] == [8] * 10
    assert runner.requests("a1")[0].token_ns is None


def test_describe_prints_a_newcomers_parameters(tmp_path: Path) -> None:
    root = runner_with_backend(tmp_path, "toy", TOY)
    out = subprocess.run(
        [sys.executable, "-m", "lem_runner", "describe", "toy"],
        env={**os.environ, "PYTHONPATH": str(root), "TOY_IMPORTED": str(tmp_path / "imported")},
        capture_output=True,
        text=True,
        check=True,
    )
    body = json.loads(out.stdout)
    assert body["backend"] == "toy"
    assert body["engine_version"] == pytest.__version__
    (parameter,) = body["parameters"]
    assert parameter == {
        "name": "volume",
        "type": "int",
        "default": 11,
        "group": "engine",
        "stability": "stable",
        "minimum": 0,
        "maximum": 11,
    }


def test_private_modules_are_no_backends() -> None:
    assert not [name for name in backends.names() if name.startswith("_")]
    with pytest.raises(BadRequestError, match="_faults"):
        backends.load("_faults")


@pytest.mark.parametrize("name", ["replay"])
def test_committed_catalogue_is_what_describe_prints(name: str) -> None:
    committed = Path(__file__).parents[3] / "images" / name / "params.json"
    out = subprocess.run(
        [sys.executable, "-m", "lem_runner", "describe", name], capture_output=True, text=True, check=True
    )
    assert committed.read_text() == out.stdout, (
        f"{committed} is stale: python -m lem_runner describe {name} > {committed}"
    )
