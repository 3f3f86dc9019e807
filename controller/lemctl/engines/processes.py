"""Processes of ours, found by the session folder that stands in their command line or environment.

The environment is inherited, so it finds what a runner started, after the runner itself has gone; the command line
finds a runner whose environment cannot be read any more.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lem_runner.protocol import SESSION_VARIABLE

#: A runner whose controller has died reads EOF and ends by itself; it gets this long before it is killed.
GRACE_S = 2.0


def end_leftover_runners(sessions: Path) -> int:
    """Wait for, then kill, every process on a session folder below `sessions`; how many there were."""
    found = processes_on(sessions)
    until = time.monotonic() + GRACE_S
    while (left := processes_on(sessions)) and time.monotonic() < until:
        time.sleep(0.02)
    kill_processes(left)
    return len(found)


def kill_processes(pids: Sequence[int]) -> None:
    """SIGKILL; one that has gone meanwhile is no error."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def processes_on(folder: Path) -> list[int]:
    """Process ids of live runners, and of what they started, whose session folder is `folder` or below it."""
    wanted = {os.fsencode(folder), os.fsencode(folder.resolve())}
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(p.name) for p in processes if int(p.name) != os.getpid() and _is_on(p, wanted)]


def _is_on(process: Path, wanted: set[bytes]) -> bool:
    """Reading the environment of a zombie, or of another user's process, gives nothing."""
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        if b"lem_runner" in arguments and any(_is_below(argument, wanted) for argument in arguments):
            return True
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    prefix = SESSION_VARIABLE.encode() + b"="
    return any(v.startswith(prefix) and _is_below(v.removeprefix(prefix), wanted) for v in variables)


def _is_below(path: bytes, wanted: set[bytes]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in wanted)
