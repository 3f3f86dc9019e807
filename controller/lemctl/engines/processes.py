"""Runners that outlived their daemon, found by the session folder in their command line."""

from __future__ import annotations

import os
import time
from pathlib import Path

#: A runner whose controller has died reads EOF and ends by itself; it gets this long before it is killed.
GRACE_S = 2.0


def end_leftover_runners(sessions: Path) -> int:
    """Wait for, then kill, every process of ours on a session folder below `sessions`; how many there were."""
    found = leftover_runners(sessions)
    until = time.monotonic() + GRACE_S
    while leftover_runners(sessions) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in leftover_runners(sessions):
        try:
            os.killpg(os.getpgid(pid), 9)
        except (ProcessLookupError, PermissionError):
            continue
    return len(found)


def leftover_runners(sessions: Path) -> list[int]:
    """Process ids of runners whose session folder is below `sessions`."""
    prefix = os.fsencode(sessions) + b"/"
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lem_runner" in arguments and any(argument.startswith(prefix) for argument in arguments):
            pids.append(int(entry.name))
    return pids
