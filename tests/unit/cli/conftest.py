"""The command line as tests call it: in this process, on a state folder of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "store"))

from build import Night, plan_of
from command_line import Lemctl, Said

from lemctl.cli.checks_engine import ENGINE_MODULES
from lemctl.cli.main import run
from lemctl.paths import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty state folder, and nothing of the caller's environment that would change what is printed."""
    for name in ("LEM_EXECUTOR", "LEM_MODELS_DIR", "LEM_DATASETS_DIR", "LEM_PYTHON_REPLAY", "LEM_MAX_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEM_EXECUTOR", "local")
    monkeypatch.setenv("LEM_LOCK_DIR", str(tmp_path / "locks"))
    return Home(tmp_path / "home")


@pytest.fixture
def lemctl(home: Home, capsys: pytest.CaptureFixture[str]) -> Lemctl:
    """`lemctl("campaign", "list")`."""

    def call(*words: str) -> Said:
        capsys.readouterr()
        code = run(words)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return call


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python for each engine that has what it is looked at for, by name alone."""
    for modules in ENGINE_MODULES.values():
        for name in modules:
            (tmp_path / "engines" / name).mkdir(parents=True)
            (tmp_path / "engines" / name / "__init__.py").touch()
    interpreter = tmp_path / "engines" / "python"
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "engines"} exec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    for backend in ENGINE_MODULES:
        monkeypatch.setenv(f"LEM_PYTHON_{backend.upper()}", str(interpreter))


@pytest.fixture
def night(home: Home) -> Iterator[Night]:
    """A database in the making."""
    found = Night(home)
    yield found
    found.close()


@pytest.fixture
def lived_in(night: Night) -> Night:
    """Two campaigns, one under way: results of both verdicts, a failure, an invalid attempt that was tried again."""
    night.add(plan_of())
    night.add(plan_of("later", cycles=1), priority=-1)
    night.activate()
    first, second, third, _ = night.runs()
    night.finish(first)
    night.fail(second, "engine_error", "CUDA error: device-side assert triggered", "Traceback\n  boom")
    night.fail(third, "invalid", "the counter was reset", retry=True)
    night.finish(third, "SUSPECT", figures={"output_tokens_per_s": 91.0})
    return night
