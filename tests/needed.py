"""What tests need of their host besides Python and engines, in one place. Somebody's host may lack some of it, and the
tests that need it are left out, in so many words. In CI (CI=true) nothing may be missing: a fault that no test made is
one that nobody knows to be survived.

A pytest plugin: what is missing ends the session before its first test, and a fault's test that is skipped all the
same, for whatever reason, has failed.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

#: name: (the Debian package that has it, what tests do with it)
TOOLS: dict[str, tuple[str, str]] = {
    "gcc": ("gcc", "builds stand-ins of drivers"),
    "strace": ("strace", "makes system calls fail"),
    "systemd-analyze": ("systemd", "verifies the unit"),
    "mkfs.ext4": ("e2fsprogs", "makes small disks"),
    "mount": ("mount", "makes small disks"),
    "setpriv": ("util-linux", "becomes nobody"),
    "tmux": ("tmux", "shows the screen in a terminal"),
}
#: Where every test makes a fault or proves a right; the table of faults names others.
FOLDERS = ("tests/faults/", "tests/docker/")


def is_ci() -> bool:
    """Nothing may be left out here."""
    return os.environ.get("CI") == "true"


def has(tool: str) -> bool:
    """Whether the host has one of `TOOLS`, or `root`: the right to mount and to become somebody else."""
    return os.getuid() == 0 if tool == "root" else shutil.which(tool) is not None


def reason(tool: str) -> str:
    """Why a test cannot be run without it, and where it is to be had."""
    if tool == "root":
        return "needs root, to mount and to become somebody else"
    package, purpose = TOOLS[tool]
    return f"needs {tool}, which {purpose} (apt-get install {package})"


def needs(*tools: str) -> pytest.MarkDecorator:
    """A mark for tests that are left out on a host without one of them."""
    lacking = [tool for tool in tools if not has(tool)]
    return pytest.mark.skipif(bool(lacking), reason="; ".join(map(reason, lacking)))


def skip_without(*tools: str) -> None:
    """The same, for a fixture."""
    for tool in tools:
        if not has(tool):
            pytest.skip(reason(tool))


def pytest_configure(config: pytest.Config) -> None:
    lacking = [tool for tool in (*TOOLS, "root") if not has(tool)]
    if is_ci() and lacking and not hasattr(config, "workerinput"):
        raise pytest.UsageError("CI=true, and tests cannot be run: " + "; ".join(map(reason, lacking)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.skipped and is_ci() and _is_of_a_fault(item.nodeid):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"CI=true, and a fault was not made: {why}"
    return report


def _is_of_a_fault(nodeid: str) -> bool:
    return nodeid.startswith(FOLDERS) or nodeid.partition("[")[0] in _named()


@cache
def _named() -> frozenset[str]:
    """The tests that the table of faults names."""
    folder = str(Path(__file__).parent / "faults")
    if folder not in sys.path:
        sys.path.append(folder)
    import table

    return frozenset(table.tests())
