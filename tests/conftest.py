"""Shared by all tests: what a night needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lemctl.settings import Settings
from night import Night

pytest_plugins = ["needed"]

# What the caller has set for a host of its own is none of these tests' business, nor is a proxy between them and what
# listens on this machine.
for _name in Settings.model_fields:
    os.environ.pop(f"LEM_{_name.upper()}", None)
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A state folder of its own; no process of it outlives the test."""
    with Night(tmp_path) as made:
        yield made


#: Tests of engines that compute: two of them beside each other would take each other's cores.
COMPUTING = (
    "tests/engines/",
    "tests/docker/test_catalogues.py",
    "tests/docker/test_pytorch_image.py",
    "tests/docker/test_two_engines.py",
    "tests/unit/judge/test_flops_counted.py",
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` a process does a file after another, and all that compute are as one file."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneComputes(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "computing" if nodeid.startswith(COMPUTING) else super()._split_scope(nodeid)

    return OneComputes(config, log)
