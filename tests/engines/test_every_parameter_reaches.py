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


def ask(python: str, script: str, *arguments: str) -> dict[str, Any]:
    """What the script's line `RESULT ...` holds."""
    environment = {**os.environ, "PYTHONPATH": f"{RUNNER_ROOT}:{TESTS}"}
    command = [python, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=CEILING_S)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    found: dict[str, Any] = json.loads(line[7:])
    return found


def described(backend: str, group: str) -> dict[str, dict[str, Any]]:
    rows = json.loads((IMAGES / backend / "params.json").read_text())["parameters"]
    return {row["name"]: row for row in rows if row["group"] == group}


def test_every_engine_parameter_of_pytorch_reaches_the_library(
    engine_python: str, stored_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(stored_model, folder)
    (folder / "adapter_config.json").write_text("{}")
    found = ask(engine_python, "drive_parameters.py", str(folder))
    rows = described("pytorch", "engine")
    assert set(found) == set(rows)
    for name, row in rows.items():
        if name in BY_THE_RUNNER:
            continue
        value, told = found[name]
        if row.get("refused"):
            assert row["refused"] in told, name
        else:
            assert told == value, name
