"""A copy of the runner with one more file in `backends/`."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner_process import RUNNER_ROOT


def runner_with_backend(folder: Path, name: str, source: str) -> Path:
    """The folder to put on the path: it holds a package `lem_runner` that also has the backend `name`."""
    root = folder / f"runner-with-{name}"
    shutil.copytree(RUNNER_ROOT / "lem_runner", root / "lem_runner", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "lem_runner" / "backends" / f"{name}.py").write_text(source)
    return root
