"""How many processes the kernel has ended for want of memory. Read only; both ends ask it about themselves."""

from __future__ import annotations

import os
from pathlib import Path


def oom_kills() -> int | None:
    """In our own control group where there is one, because what others run out of is nothing of ours; else on the whole
    host. None where it does not tell."""
    own = oom_counter(os.getpid())
    return read_oom_kills(own if own is not None else Path("/proc/vmstat"))


def has_grown(before: int | None, after: int | None) -> bool:
    """Whether a count that may be unknown has grown."""
    return before is not None and after is not None and after > before


def oom_counter(pid: int, cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> Path | None:
    """The file that counts the kills in the process' memory cgroup, in version 2 or 1 of the kernel's interface; None
    where there is none.

    To be asked while the process lives, and kept: version 1 moves a dead one to the root group, which counts others'.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:  # the process has ended
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            counter = cgroup_root / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            counter = cgroup_root / "memory" / path.lstrip("/") / "memory.oom_control"
        else:
            continue
        if counter.exists():
            return counter
    return None


def read_oom_kills(counter: Path) -> int | None:
    """The count of such a file; None where it is gone with its group, or has none."""
    try:
        pairs = (entry.split() for entry in counter.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[0] == "oom_kill"), None)
    except OSError:
        return None
