"""The device belongs to the engine that says so: nothing in the runner touches torch or CUDA before it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from runner_process import RUNNER_ROOT, StartRunner, make_spec

from lem_runner import backends

#: Python imports a module of this name at its start.
BLOCKER = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "vllm", "tensorrt_llm", "numpy"):
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
"""


def modules_of(engine: str) -> list[Path]:
    """The sources of the backends whose engine initialises the device itself, but for what runs in its workers."""
    found = (RUNNER_ROOT / "lem_runner" / "backends").glob(f"*{engine}*.py")
    return [path for path in found if not path.stem.endswith("_worker")]


def test_hello_and_a_run_without_an_engine_import_none(start_runner: StartRunner, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "lem_runner").symlink_to(RUNNER_ROOT / "lem_runner")
    (root / "sitecustomize.py").write_text(BLOCKER)
    runner = start_runner(package_root=root)
    assert runner.run("a", make_spec(tmp_path)).type == "result"
    hello = runner.events()[0].data
    assert {"pytorch", "vllm", "tensorrt", "replay"} <= set(hello["backends"])


@pytest.mark.parametrize("engine", ["vllm", "tensorrt"])
def test_engines_that_own_the_device_are_driven_without_torch(engine: str) -> None:
    sources = modules_of(engine)
    assert sources
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "torch" for name in names), f"{source.name}:{node.lineno}"


@pytest.mark.parametrize(("owner", "is_refused"), [("engine", True), ("torch", False)])
def test_an_engine_that_owns_cuda_is_not_loaded_after_torch_has_it(
    owner: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True)))  # type: ignore[arg-type]
    backend = SimpleNamespace(OWNS_CUDA=owner)
    if is_refused:
        with pytest.raises(RuntimeError, match="before the engine that owns it"):
            backends.check_device_is_untouched(backend)  # type: ignore[arg-type]
    else:
        backends.check_device_is_untouched(backend)  # type: ignore[arg-type]
