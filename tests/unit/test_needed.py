"""What a host lacks is said by tests that are left out, and in CI fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from needed import TOOLS, reason

TESTS = Path(__file__).parents[1]
A_FAULT = """
import pytest
from needed import needs

@needs("strace")
def test_the_fault(): pass

def test_another(): pytest.skip("no loop device")
"""


def run(folder: Path, where: str, **variables: str) -> subprocess.CompletedProcess[str]:
    file = folder / where / "test_it.py"
    file.parent.mkdir(parents=True)
    file.write_text(A_FAULT)
    environment = {name: value for name, value in os.environ.items() if name != "CI" and "PYTEST" not in name}
    options = ["-p", "needed", "-p", "no:cacheprovider", "-rs", "--rootdir", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(TESTS), **variables},
    )


def test_without_ci_a_fault_that_cannot_be_made_is_left_out_and_said(tmp_path: Path) -> None:
    done = run(tmp_path, "tests/faults", PATH=str(tmp_path))
    assert done.returncode == 0
    assert reason("strace") in done.stdout
    assert "2 skipped" in done.stdout


def test_in_ci_a_missing_tool_ends_the_session_before_its_first_test(tmp_path: Path) -> None:
    done = run(tmp_path, "tests/faults", CI="true", PATH=str(tmp_path))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stdout == ""
    for tool in TOOLS:
        assert reason(tool) in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason=reason("root"))
def test_in_ci_a_fault_that_is_skipped_all_the_same_has_failed(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).write_text("#!/bin/sh\n")
        (tools / tool).chmod(0o755)
    done = run(tmp_path, "tests/faults", CI="true", PATH=str(tools))
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in done.stdout
    assert "CI=true, and a fault was not made: Skipped: no loop device" in done.stdout
    elsewhere = run(tmp_path, "tests/unit", CI="true", PATH=str(tools))
    assert elsewhere.returncode == 0, "what is no fault may depend on the host"
