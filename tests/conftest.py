"""Shared by all tests: what a night needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from night import Night


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A state folder of its own; no process of it outlives the test."""
    with Night(tmp_path) as made:
        yield made
