"""Folders for what an engine must have in files: removed when it closes. One that is killed leaves its own behind, and
then it lies in the session folder, not where nobody looks for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lem_runner.protocol import SESSION_VARIABLE


def scratch_folder(name: str) -> Path:
    """A new empty folder: in the session folder where the environment names it, else where temporary files are. In a
    container that is a file system in memory, which goes with the container."""
    return Path(tempfile.mkdtemp(prefix=f"lem-{name}-", dir=os.environ.get(SESSION_VARIABLE)))
