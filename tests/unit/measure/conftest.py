from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "nvml_stub"))

from needed import skip_without
from nvml_stub import NvmlStub


@pytest.fixture
def host_with_gpus(tmp_path: Path) -> Callable[..., NvmlStub]:
    """Makes a host of model GPUs behind the real NVML bindings."""
    skip_without("gcc")
    return lambda **settings: NvmlStub(tmp_path, **settings)
