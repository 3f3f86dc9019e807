"""Shared by all tests: what a night needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lemctl.settings import Settings
from night import Night

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
