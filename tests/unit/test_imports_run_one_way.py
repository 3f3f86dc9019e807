"""Imports run one way, and each foreign library has one place. Read from the source, so that a lazy import counts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTROLLER = ROOT / "controller" / "lemctl"
RUNNER = ROOT / "runner" / "lem_runner"

#: Modules at the top that every part may use.
GROUND = {"errors", "clock", "paths", "settings", "lines", "steps", "cancel", "redact", "__init__"}
#: part -> the parts that it may import beside itself and the ground.
MAY_IMPORT = {
    "campaign": set(),
    "judge": set(),
    "measure": set(),
    "thermal": {"measure"},
    "store": {"campaign"},
    "engines": {"campaign"},
    "report": {"store", "judge", "campaign"},
    "daemon": {"store", "campaign", "engines", "measure", "thermal", "judge"},
    "simulate": {"daemon", "store", "campaign", "engines", "measure", "thermal", "judge"},
    "cli": {"daemon", "report", "store", "campaign", "engines", "measure", "thermal", "judge", "simulate"},
}
#: Of the runner, what the controller shares: plain values and pure functions. Everything else runs in the runner alone.
SHARED = {"protocol", "results", "prompts", "parameters", "portable", "lengths", "named_datasets", "oom"}
#: A library that only one place may import.
ONLY_IN = {
    "sqlite3": ("store/",),
    "python_on_whales": ("engines/containers.py",),
    "apprise": ("daemon/sender.py",),
    "pynvml": ("measure/gpu.py", "measure/nvml.py"),
    "yaml": ("campaign/", "settings.py"),
}


def _python_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


def _imported(path: Path) -> Iterator[tuple[str, bool]]:
    """(dotted module, whether it is imported for types only)."""
    tree = ast.parse(path.read_text())
    types_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in types_only
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in types_only
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in types_only


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_a_part_imports_only_what_lies_below_it(part: str) -> None:
    wrong = []
    for path in _python_files(CONTROLLER / part):
        for module, _ in _imported(path):
            if not module.startswith("lemctl."):
                continue
            target = module.split(".")[1]
            if target in GROUND or target == part or target in MAY_IMPORT[part] or target == "__version__":
                continue
            wrong.append(f"{path.relative_to(ROOT)}: {module}")
    assert not wrong


def test_every_part_of_the_controller_has_its_rule() -> None:
    parts = {path.name for path in CONTROLLER.iterdir() if path.is_dir() and path.name not in ("__pycache__", "data")}
    assert parts == set(MAY_IMPORT)


def test_the_ground_imports_no_part() -> None:
    wrong = [
        f"{path.name}: {module}"
        for path in CONTROLLER.glob("*.py")
        for module, _ in _imported(path)
        if module.startswith("lemctl.") and module.split(".")[1] in MAY_IMPORT
    ]
    assert not wrong


def test_the_runner_imports_nothing_of_the_controller() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in _python_files(RUNNER)
        for module, _ in _imported(path)
        if module.split(".")[0] == "lemctl"
    ]
    assert not wrong


def test_the_controller_shares_only_values_and_pure_functions_with_the_runner() -> None:
    """But for the simulation, which stands in for a runner and serves a load by the runner's own loop."""
    wrong = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in _python_files(CONTROLLER)
        if path.relative_to(CONTROLLER).parts[0] != "simulate"
        for module, _ in _imported(path)
        if module.startswith("lem_runner.") and module.split(".")[1] not in SHARED
    ]
    assert not wrong


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_has_one_place(library: str) -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in _python_files(CONTROLLER)
        for module, types_only in _imported(path)
        if module.split(".")[0] == library
        and not types_only
        and not str(path.relative_to(CONTROLLER)).startswith(ONLY_IN[library])
    ]
    assert not wrong
