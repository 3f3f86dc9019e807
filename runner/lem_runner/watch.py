"""The threads beside the work: commands from stdin, a sign of life, and whether the controller still lives.

A controller that is gone ends the process at once, from whichever thread notices: the main one may be in native code.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lem_runner.failures import SessionFolderError
from lem_runner.processes import kill_descendants
from lem_runner.protocol import EXIT_IO, EXIT_ORPHANED, Command, ContractError

#: A command line longer than this is refused unread; the longest real one is a run spec with a model's configuration.
LINE_LIMIT_B = 16 << 20


@dataclass(frozen=True)
class Unreadable:
    """A line on stdin that is no command, and why."""

    message: str


def end_now(code: int, reason: str) -> NoReturn:
    """End the process tree and this process, whatever its other threads are doing."""
    kill_descendants()
    try:
        os.write(2, f"lem_runner: {reason}\n".encode())
    except OSError:
        pass  # the log's reader may be gone too
    os._exit(code)


def end_like(returncode: int, reason: str) -> NoReturn:
    """End the process tree and this process in the way another process ended: the controller reads it from that."""
    kill_descendants()
    with suppress(OSError):
        os.write(2, f"lem_runner: {reason}\n".encode())
    if returncode < 0:
        with suppress(OSError, ValueError):  # SIGKILL has no handler to reset
            signal.signal(-returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -returncode)
        time.sleep(1.0)  # of a signal that may be blocked or ignored by default
    os._exit(returncode if returncode > 0 else EXIT_IO)


def listen(fd: int, deliver: Callable[[Command | Unreadable], None]) -> NoReturn:
    """Deliver every line of `fd` as it comes; end the process at its end."""
    for line in _lines(fd):
        if line is None:
            deliver(Unreadable(f"a line of more than {LINE_LIMIT_B} bytes"))
            continue
        if not line.strip():
            continue
        try:
            deliver(Command.decode(line))
        except ContractError as error:
            deliver(Unreadable(str(error)))
    end_now(EXIT_ORPHANED, "stdin has ended: the controller is gone")


def _lines(fd: int) -> Iterator[bytes | None]:
    """Whole lines; None once for each line that was too long."""
    pending = b""
    is_skipping = False
    while chunk := os.read(fd, 1 << 16):
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            if is_skipping:
                is_skipping = False
                yield None
            else:
                yield line
        if len(pending) > LINE_LIMIT_B:
            is_skipping, pending = True, b""


class FileAge:
    """How long a file has not changed, by this process's own monotonic clock.

    Wall clocks step; so the time in the file's stamp is never compared with one, only with its own last value.
    """

    def __init__(self, now_s: float) -> None:
        self._stamp: tuple[int, ...] | None = None
        self._changed_s = now_s

    def observe(self, stamp: tuple[int, ...] | None, now_s: float) -> float:
        """Seconds since the stamp last differed; a file that was never there counts from the start."""
        if stamp != self._stamp:
            self._stamp = stamp
            self._changed_s = now_s
        return now_s - self._changed_s


def watch_lease(path: Path, limit_s: float) -> NoReturn:
    """End the process when the lease has not been touched for `limit_s` seconds."""
    age = FileAge(time.monotonic())
    while True:
        time.sleep(limit_s / 20)
        # Looked at before it is judged: a runner that was itself stopped for a while must not blame the controller.
        if age.observe(stamp(path), time.monotonic()) > limit_s:
            end_now(EXIT_ORPHANED, f"the lease has not been touched for {limit_s:g} s: the controller is gone")


def stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with every write to a file; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def tell_alive(tell: Callable[[], None], period_s: float) -> NoReturn:
    """A sign of life every `period_s` seconds, whatever the main thread is doing."""
    while True:
        time.sleep(period_s)
        try:
            tell()
        except SessionFolderError as error:
            end_now(EXIT_IO, str(error))


def start_thread(name: str, target: Callable[[], None]) -> None:
    """A daemon thread; a fault of ours in it ends the process, for nothing would be noticed otherwise."""

    def guarded() -> None:
        try:
            target()
        except BaseException:  # noqa: BLE001 - reported, then the process ends
            sys.excepthook(*sys.exc_info())
            end_now(1, f"the thread {name} failed")

    threading.Thread(target=guarded, name=name, daemon=True).start()
