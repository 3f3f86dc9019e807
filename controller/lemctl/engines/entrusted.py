"""Files in a folder that a runner may write to: it, or whoever has taken it over, may have put a link, a pipe or a
device in their place. Nothing is followed, nothing blocks, and only plain files are read or written."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_entrusted(path: Path, flags: int) -> int:
    """As `os.open`; raises `OSError` where `path` is no plain file."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return fd


def read_entrusted(path: Path, most_b: int) -> bytes | None:
    """Its bytes, None where there is no such file. Raises `OSError`, also where it is longer than `most_b`."""
    try:
        fd = open_entrusted(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        if os.fstat(fd).st_size > most_b:
            raise OSError(errno.EFBIG, f"larger than {most_b} bytes", str(path))
        return file.read(most_b)


def write_entrusted(path: Path, content: bytes, flags: int = os.O_TRUNC) -> None:
    """Its whole content, or with `O_APPEND` its end. Raises `OSError`."""
    with os.fdopen(open_entrusted(path, os.O_WRONLY | os.O_CREAT | flags), "wb") as file:
        file.write(content)


def touch_entrusted(path: Path) -> None:
    """Make it, or set its time to now. Raises `OSError`."""
    fd = open_entrusted(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.utime(fd)
    finally:
        os.close(fd)
