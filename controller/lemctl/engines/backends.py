"""The one table of backends: name -> compose service, image, interpreter. A backend is added by one row here,
one file in `lem_runner/backends/` and one service in `compose.yaml`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from lemctl.paths import data_folder


@dataclass(frozen=True)
class Backend:
    """One row. `interpreter` is the Python inside the container; `image` the default, `LEM_IMAGE_<NAME>` wins."""

    name: str
    service: str
    image: str
    interpreter: str
    needs_gpu: bool = False

    @property
    def image_ref(self) -> str:
        """The image to run."""
        return os.environ.get(f"LEM_IMAGE_{self.name.upper()}") or self.image

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


BACKENDS: dict[str, Backend] = {
    row.name: row
    for row in (
        Backend("pytorch", "pytorch", "lemctl/pytorch:cpu", "/opt/lem/bin/python"),
        Backend("replay", "replay", "python:3.11-slim-bookworm", "/usr/local/bin/python"),
    )
}
