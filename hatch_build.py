"""Writes the commit into what is built, so that an installed lemctl can say and record what it was made from."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: In the source archive; in the wheel it lies with the other data.
FILE = "COMMIT"
TIMEOUT_S = 10.0


class CommitHook(BuildHookInterface[Any]):
    """`COMMIT`: the hash and, where files differ from it, the word `modified`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file. An editable installation asks its checkout instead."""
        if version == "editable" or (text := self._commit()) is None:
            return
        handle, self._path = tempfile.mkstemp()
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(self._path).chmod(0o644)
        build_data["force_include"][self._path] = FILE if self.target_name == "sdist" else f"lemctl/data/{FILE}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's signature
        """Remove what was written for it."""
        if path := getattr(self, "_path", None):
            Path(path).unlink(missing_ok=True)

    def _commit(self) -> str | None:
        root = Path(self.root)
        if (root / FILE).is_file():
            return (root / FILE).read_text("utf-8")
        if not (root / ".git").exists():
            return None
        commit, changes = self._git("rev-parse", "HEAD"), self._git("status", "--porcelain")
        return None if commit is None or changes is None else commit + (" modified" if changes else "") + "\n"

    def _git(self, *words: str) -> str | None:
        try:
            command = ["git", "-C", self.root, *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()
