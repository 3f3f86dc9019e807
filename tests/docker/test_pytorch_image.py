"""The image of the pytorch service works under the hardening: torch loads and generates there."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lemctl.engines.backends import BACKENDS
from lemctl.engines.containers import Containers, ContainerSpec

ROOT = Path(__file__).parents[2]

WORK = """
import torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained("/lem/models/tiny")
with torch.inference_mode():
    print(model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, min_new_tokens=3, do_sample=False).shape[1])
print(torch.__version__)
import bitsandbytes, optimum.quanto, pathlib, peft, shutil, sysconfig
print(shutil.which("c++") is not None and pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
"""


@pytest.mark.docker
@pytest.mark.engine
def test_a_model_generates_in_the_hardened_container(engine: Containers, spec: ContainerSpec, tiny_model: Path) -> None:
    backend = BACKENDS["pytorch"]
    if engine.image_facts(backend.image_ref) is None:
        assert not os.environ.get("LEM_TEST_NEEDS_DOCKER"), f"{backend.image_ref} is missing"
        pytest.skip("`make image` builds the image")
    shutil.copytree(tiny_model, Path(spec.env["LEM_MODELS_DIR"]) / "tiny")
    env = {**spec.env, "LEM_IMAGE_PYTORCH": backend.image_ref}
    pytorch = dataclasses.replace(spec, service=backend.service, env=env)
    engine.up(pytorch)
    command = engine.exec_command(pytorch, [backend.interpreter, "-c", WORK])
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    tokens, version, compiles = done.stdout.split()
    assert tokens == "6"
    pinned = (ROOT / "images" / "pytorch" / "requirements.cpu.txt").read_text()
    assert f"torch=={version}" in pinned
    assert compiles == "True", "torch.compile and quantised caches need a compiler and Python's headers"
