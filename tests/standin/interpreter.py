"""A Python that has the stand-in of TensorRT-LLM, on a host whose driver shows the GPUs that a test names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from needed import skip_without

STANDIN = Path(__file__).parent
AMPERE = "A100:8.0"
VOCABULARY = 500


def build_driver(folder: Path) -> Path:
    """The folder of a driver that knows the GPUs of LEM_TEST_GPUS."""
    skip_without("gcc")
    library = folder / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, STANDIN / "cuda_stub.c"], check=True, timeout=60)
    return folder


def write_interpreter(path: Path, driver: Path | None, gpus: str = AMPERE, python: str = sys.executable) -> Path:
    """`gpus` are `name:major.minor`, joined by commas; without a driver there are none."""
    variables = f"PYTHONPATH=$PYTHONPATH:{STANDIN} LEM_TEST_GPUS={gpus}"
    if driver is not None:
        variables += f" LD_LIBRARY_PATH={driver}"
    path.write_text(f'#!/bin/sh\nexec env {variables} {python} "$@"\n')
    path.chmod(0o755)
    return path


def write_model(folder: Path, **standin: Any) -> Path:
    """A model folder; `standin` says how the stand-in behaves with it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "llama", "vocab_size": VOCABULARY, "max_position_embeddings": 64, "eos_token_id": [2, 9]}
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "bfloat16", "standin": standin}))
    return folder
