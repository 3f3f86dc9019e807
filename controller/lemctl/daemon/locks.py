"""Locks that the kernel frees: one daemon per state folder, one owner per GPU on the whole host.

`flock` on an open file: gone with its process, however it dies, and not inherited by children (the file is
close-on-exec).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from lemctl.errors import Locked, PreflightRefused

#: As /tmp has it.
LOCK_FOLDER_MODE = 0o1777


class FileLock:
    """An exclusive lock on a file whose text tells who holds it."""

    def __init__(self, path: Path, fd: int):
        self.path = path
        self._fd: int | None = fd

    @classmethod
    def take(cls, path: Path, text: str, mode: int = 0o600, patience_s: float = 1.0) -> FileLock:
        """Take it or raise `Locked` with the holder's text. Patience outlasts somebody's momentary look."""
        fd = _open(path, mode)
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    held_by = os.pread(fd, 200, 0).decode(errors="replace").strip()
                    os.close(fd)
                    raise Locked(f"{path} is held by {held_by or 'another process'}") from None
                time.sleep(0.02)
        _write_text(fd, text + "\n")
        return cls(path, fd)

    def release(self) -> None:
        """Give it back; the file stays, because removing it would race with the next taker."""
        if self._fd is not None:
            _write_text(self._fd, "")
            os.close(self._fd)
            self._fd = None


def _write_text(fd: int, text: str) -> None:
    """The text only tells who holds the lock: a disk too full for it takes nothing from the lock."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)
    except OSError:
        pass


def _open(path: Path, mode: int) -> int:
    """The file, made if need be. An existing one is opened without O_CREAT: in a sticky folder the kernel refuses that
    for another user's file (fs.protected_regular)."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, mode)
        os.fchmod(fd, mode)
        return fd


def holder_text(path: Path) -> str | None:
    """What the holder wrote, or None when nobody holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 200, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(fd)
    return None


def make_lock_folder(folder: Path) -> None:
    """The folder of the GPUs' locks, for every user of the host whatever the umask: each makes and opens files in it,
    and removes nobody else's. One that somebody else made is taken as it is. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_uid == os.getuid():
        folder.chmod(LOCK_FOLDER_MODE)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def take_lane_locks(folder: Path, names: tuple[str, ...], text: str) -> list[FileLock]:
    """Lock every GPU of a lane (or `cpu`), in one order so that two lanes cannot deadlock; all or none.

    Raises `Locked` with the holder, `PreflightRefused` when the folder cannot be used.
    """
    try:
        make_lock_folder(folder)
    except OSError as error:
        raise PreflightRefused(
            f"lock folder {folder}: {error.strerror}; set LEM_LOCK_DIR to a folder that all users share"
        ) from error
    taken: list[FileLock] = []
    try:
        for name in sorted(names):
            # One by one: a comprehension would lose those taken before the one that is refused.
            taken += [FileLock.take(folder / name, text, mode=0o666, patience_s=0.1)]
    except (Locked, OSError) as error:
        for lock in taken:
            lock.release()
        if isinstance(error, OSError):
            raise PreflightRefused(f"lock folder {folder}: {error.strerror}; set LEM_LOCK_DIR") from error
        raise
    return taken
