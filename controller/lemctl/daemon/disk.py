"""Room on the disks that a night needs: the state folder's, the session folder's where it is another one, the container
engine's. Where room is short no run starts; where it has run out, a ballast file is given up so that the state can
still be written, and laid out again when there is room."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lemctl.clock import Clock
from lemctl.paths import Home

#: A missing ballast file is thought of so often.
LOOK_S = 10.0
MB = 1_000_000
#: Enough for the state of one attempt.
ROOM_B = 1 << 20

_log = logging.getLogger(__name__)


class Disk(Protocol):
    """What the daemon asks of its disks."""

    def lack(self, others: Iterable[Path] = ()) -> str | None:
        """Which disk has too little room for another run, in words; None when all have enough."""
        ...

    def make_room(self) -> bool:
        """Give up what is kept for an emergency; False when there was nothing left to give."""
        ...


class Boundless:
    """A `Disk` for a simulation."""

    def lack(self, others: Iterable[Path] = ()) -> str | None:  # noqa: ARG002 - the Protocol's signature
        """Never."""
        return None

    def make_room(self) -> bool:
        """There is room."""
        return False


class Ballast:
    """A file whose only use is to be deleted. Its blocks are allocated, not only its length."""

    def __init__(self, path: Path, size_b: int):
        self.path = path
        self.size_b = size_b

    def is_there(self) -> bool:
        """Whole, or at least what an earlier daemon laid out."""
        with suppress(OSError):
            return self.path.stat().st_size > 0
        return False

    def lay_out(self) -> bool:
        """Allocate it; False, and nothing left behind, where the disk does not have so much."""
        if self.size_b == 0:
            return False
        try:
            fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, self.size_b)
        except OSError:
            self.path.unlink(missing_ok=True)
            return False
        finally:
            os.close(fd)
        return True

    def give_up(self) -> bool:
        """Delete it; False when there was none."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True


class HostDisk:
    """The true `Disk`, and a chore of the daemon: the ballast comes back when there is room."""

    def __init__(
        self, home: Home, clock: Clock, min_free_b: float, ballast_b: int, free_b: Callable[[Path], float] | None = None
    ):
        self._home = home
        self._clock = clock
        self._min_free_b = min_free_b
        self._free_b = free_b or _free_b
        self._looked_ns: int | None = None
        self.ballast = Ballast(home.ballast, ballast_b)

    def lack(self, others: Iterable[Path] = ()) -> str | None:
        """Of the state folder, the session folder and `others`; a folder that cannot be asked lacks nothing."""
        for folder in (self._home.root, self._home.sessions, *others):
            try:
                free_b = self._free_b(folder)
            except OSError:
                continue
            if free_b < self._min_free_b:
                return f"free disk: {free_b / MB:.0f} MB left at {folder}, {self._min_free_b / MB:.0f} MB needed"
        return None

    def make_room(self) -> bool:
        """Give up the ballast. True also where there is room meanwhile, such as what another thread gave up."""
        if self.ballast.give_up():
            _log.warning("the disk is full: gave up the ballast of %.0f MB", self.ballast.size_b / MB)
            return True
        return self._free_b(self._home.root) > ROOM_B

    def tick(self) -> None:
        """Lay the ballast out again once it takes nothing from what runs need."""
        now_ns = self._clock.monotonic_ns()
        if self._looked_ns is not None and now_ns - self._looked_ns < LOOK_S * 1e9:
            return
        self._looked_ns = now_ns
        if self.ballast.is_there() or self._free_b(self._home.root) < self._min_free_b + self.ballast.size_b:
            return
        self.ballast.lay_out()

    def close(self) -> None:
        """The ballast stays: the next daemon may need it at its start."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an operating system's error says that there is no room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _free_b(folder: Path) -> float:
    return shutil.disk_usage(folder).free
