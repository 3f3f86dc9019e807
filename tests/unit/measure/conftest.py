from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "nvml_stub"))

from nvml_stub import NvmlStub


@pytest.fixture
def host_with_gpus(tmp_path: Path) -> Callable[..., NvmlStub]:
    """Makes a host of model GPUs behind the real NVML bindings."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to build the NVML stand-in")
    return lambda **settings: NvmlStub(tmp_path, **settings)
