"""Real small file systems for tests: they fill up as a disk does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from needed import skip_without


class Filler:
    """A file that takes all the room there is, until it is removed."""

    def __init__(self, folder: Path):
        self._path = folder / "filler"

    def fill(self, leave_b: int = 0) -> None:
        """Nobody else gets a block from now on, but for so many bytes."""
        with self._path.open("ab", buffering=0) as file:
            for piece_b in (1 << 20, 1 << 16, 1 << 12):
                try:
                    while True:
                        file.write(bytes(piece_b))
                except OSError:
                    continue
            if leave_b:
                file.truncate(max(0, file.tell() - leave_b))

    def remove(self) -> None:
        """There is room again."""
        self._path.unlink()


@contextmanager
def mounted(folder: Path, size_mb: int, kind: str, image: Path | None = None) -> Iterator[Filler]:
    """`folder` as a file system of its own, `tmpfs` or `ext4` (on a loop device). Skips where that is not allowed."""
    skip_without("root", "mount", *(["mkfs.ext4"] if kind == "ext4" else []))
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "ext4":
        image = image or folder.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        command = ["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)]
        subprocess.run(command, check=True, capture_output=True)
        mount = ["mount", "-o", "loop", str(image), str(folder)]
    else:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no {kind} can be mounted here: {done.stderr.strip()}")
    try:
        yield Filler(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
        if image is not None:
            image.unlink(missing_ok=True)
