"""The machine that figures were made on, in one line that names nothing, and what it counts of a process."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"Machine: {os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}."


def cpu_ns(pid: int) -> int:
    """CPU time that a process has had, all threads, in ns; ticks of 10 ms are too coarse for one that rests."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
