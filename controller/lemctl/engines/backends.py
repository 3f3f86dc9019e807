"""The one table of backends: name -> compose service, image, interpreter. A backend is added by one row here,
one file in `lem_runner/backends/` and one service in `compose.yaml`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lemctl.paths import data_folder

BUILD_FILE = "build.yaml"


#: Made by NVIDIA's driver: where it is not there, no container can be given a GPU.
GPU_DEVICE = Path("/dev/nvidiactl")


@dataclass(frozen=True)
class Backend:
    """One row. `interpreter` is the Python inside the container.

    `image` is the default and `gpu_image`, where there is one, the default on a host with an NVIDIA GPU;
    `LEM_IMAGE_<NAME>` wins.
    """

    name: str
    service: str
    image: str
    interpreter: str
    gpu_image: str | None = None
    needs_gpu: bool = False
    #: Whether it serves whole batches and requests one by one by engines of different kinds.
    has_two_kinds: bool = False
    #: What a person should know before trusting this engine's figures; `doctor` says it.
    caution: str = ""

    @property
    def image_ref(self) -> str:
        """The image to run."""
        default = self.image if self.gpu_image is None or self.variant == "cpu" else self.gpu_image
        return os.environ.get(f"LEM_IMAGE_{self.name.upper()}") or default

    @property
    def variant(self) -> Literal["cpu", "gpu"]:
        """Which of its images this host is for."""
        return "gpu" if GPU_DEVICE.exists() else "cpu"

    @property
    def can_build(self) -> bool:
        """Whether the image is built here; else it is pulled as it is."""
        context = self.build_context
        return (context / BUILD_FILE).is_file() and (context / f"requirements.{self.variant}.txt").is_file()

    @property
    def local_interpreter(self) -> str:
        """The Python of the local executor: `LEM_PYTHON_<NAME>`, else the one that runs lemctl."""
        return os.environ.get(f"LEM_PYTHON_{self.name.upper()}") or sys.executable

    @property
    def catalogue(self) -> Path:
        """The committed parameter catalogue of this engine."""
        return data_folder() / "images" / self.name / "params.json"

    @property
    def build_context(self) -> Path:
        """Folder with the Dockerfile, where this backend has an image of its own."""
        return data_folder() / "images" / self.name


#: vLLM's own image for NVIDIA GPUs, of the version that `images/vllm/params.json` describes. Its digest was not to be
#: had when this was written, and a tag can move; to pin it:
#: docker pull IMAGE && export LEM_IMAGE_VLLM=$(docker image inspect --format '{{index .RepoDigests 0}}' IMAGE)
#: Every session keeps the digest of the image that it ran.
VLLM_UPSTREAM = "vllm/vllm-openai:v0.32.0"

#: NVIDIA's own image of the version that `images/tensorrt/params.json` describes. The digest is the one that several
#: published records of pulls give for this tag.
TENSORRT_UPSTREAM = (
    "nvcr.io/nvidia/tensorrt-llm/release:1.2.1@sha256:33cd085b772947bd22b7273886539331420404e5d2a4a039945241945ff927b9"
)

BACKENDS: dict[str, Backend] = {
    row.name: row
    for row in (
        Backend("pytorch", "pytorch", "lemctl/pytorch:cpu", "/opt/lem/bin/python", "lemctl/pytorch:gpu"),
        # The interpreter by its name: in the image built here and in the upstream one it lies in different folders.
        Backend("vllm", "vllm", "lemctl/vllm:cpu", "python3", VLLM_UPSTREAM, has_two_kinds=True),
        Backend(
            "tensorrt",
            "tensorrt",
            TENSORRT_UPSTREAM,
            "python3",
            needs_gpu=True,
            caution="written against the published interface of TensorRT-LLM 1.2, and not yet run on a GPU: compare "
            "what `results show` says was resolved and reported before you trust a figure",
        ),
        Backend("replay", "replay", "python:3.11-slim-bookworm", "/usr/local/bin/python"),
    )
}
