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
    """Resident memory in bytes of this process and all below it; None where /proc does not tell.

    Pages that they share count once for each.
    """
    return _sum_status_b("VmRSS")


def peak_rss_b() -> int | None:
    """The sum of their highest resident memory in bytes, each since its start or the last `reset_peak_rss`."""
    return _sum_status_b("VmHWM")


def reset_peak_rss() -> bool:
    """Start the peaks anew (proc(5), clear_refs 5); False where the kernel refuses it for this process."""
    for pid in descendants(os.getpid()):
        # One that has just ended has no peak.
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _sum_status_b(field: str) -> int | None:
    own_b = _status_b("self", field)
    if own_b is None:
        return None
    return own_b + sum(_status_b(str(pid), field) or 0 for pid in descendants(os.getpid()))


def _status_b(process: str, field: str) -> int | None:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None
