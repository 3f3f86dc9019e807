"""Every parameter of the installed engines is taken by their own classes, or refused with its reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from runner_process import RUNNER_ROOT

pytestmark = pytest.mark.engine

TESTS = Path(__file__).parents[1]
IMAGES = TESTS.parent / "images"
CEILING_S = 300.0
#: Whole replicas are runners below the runner; the engine in each knows nothing of the others.
BY_THE_RUNNER = ("data_parallel",)


def ask(python: str, script: str, *arguments: str) -> list[dict[str, Any]]:
    """What the script's lines `RESULT ...` hold."""
    environment = {**os.environ, "PYTHONPATH": f"{RUNNER_ROOT}:{TESTS}"}
    command = [python, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=CEILING_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]


def hold(found: dict[str, Any], backend: str, group: str) -> None:
    """Everything described was tried; what can be set was reached, what cannot was refused with its reason."""
    described = json.loads((IMAGES / backend / "params.json").read_text())["parameters"]
    rows = {row["name"]: row for row in described if row["group"] == group}
    assert set(found) | set(BY_THE_RUNNER) >= set(rows) >= set(found)
    for name, (value, told) in found.items():
        if rows[name].get("refused"):
            assert rows[name]["refused"] in told, name
        else:
            assert told == value, name


def test_every_engine_parameter_of_pytorch_reaches_the_library(
    engine_python: str, stored_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(stored_model, folder)
    (folder / "adapter_config.json").write_text("{}")
    (found,) = ask(engine_python, "drive_parameters.py", str(folder))
    hold({name: told for name, told in found.items() if name not in BY_THE_RUNNER}, "pytorch", "engine")


def test_every_parameter_of_vllm_reaches_the_library(vllm_python: str, stored_model: Path) -> None:
    engine, sampling = ask(vllm_python, "drive_vllm_parameters.py", str(stored_model))
    hold(engine, "vllm", "engine")
    hold(sampling, "vllm", "sampling")
