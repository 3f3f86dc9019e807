"""This process and what hangs below it: ending the whole tree, and how much memory it holds. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def own_group() -> None:
    """Become a session of our own where possible, and the parent of every orphan below us.

    The second is what lets `kill_descendants` find a process whose own parent has already gone.
    """
    try:
        os.setsid()
    except PermissionError:
        pass  # already a leader
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants() -> None:
    """SIGKILL every process below this one, those born while it works included; the process itself stays."""
    killed: set[int] = set()
    while True:
        living = set(descendants(os.getpid())) - killed
        if not living:
            return
        for pid in living:
            # Gone by itself, or not ours to end: either way nothing more to do.
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed |= living


def descendants(root_pid: int) -> list[int]:
    """Process ids below `root_pid`, from /proc; zombies are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state, parent_pid = _state_and_parent(entry)
            if state not in "ZX":
                children.setdefault(parent_pid, []).append(int(entry.name))
    found: list[int] = []
    queue = [root_pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _state_and_parent(process: Path) -> tuple[str, int]:
    """From /proc/PID/stat; a process that has gone meanwhile reads as dead (X)."""
    try:
        stat = (process / "stat").read_text(errors="replace")
    except OSError:
        return "X", 0
    # The name stands in parentheses and may hold anything: the fields follow the last one.
    state, parent_pid = stat.rpartition(")")[2].split()[:2]
    return state, int(parent_pid)


def rss_b() -> int | None:
    """Resident memory of this process in bytes; None where /proc does not tell."""
    return _status_b("VmRSS")


def peak_rss_b() -> int | None:
    """Highest resident memory in bytes since the start or the last `reset_peak_rss`."""
    return _status_b("VmHWM")


def reset_peak_rss() -> bool:
    """Start the peak anew (proc(5), clear_refs 5); False where the kernel refuses."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_b(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None
