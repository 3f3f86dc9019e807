"""How many processes the kernel has ended for want of memory. Read only; both ends ask it about themselves."""

from __future__ import annotations

import os
from pathlib import Path


def oom_kills() -> int | None:
    """In our own control group where there is one, because what others run out of is nothing of ours; else on the whole
    host. None where it does not tell."""
    own = cgroup_oom_kills(os.getpid())
    if own is not None:
        return own
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return None


def has_grown(before: int | None, after: int | None) -> bool:
    """Whether a count that may be unknown has grown."""
    return before is not None and after is not None and after > before


def cgroup_oom_kills(pid: int, cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int | None:
    """The `oom_kill` counter of the process' memory cgroup, in version 2 or 1 of the kernel's interface."""
    try:
        for line in (proc / str(pid) / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                counters = cgroup_root / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                counters = cgroup_root / "memory" / path.lstrip("/") / "memory.oom_control"
            else:
                continue
            if counters.exists():
                pairs = (entry.split() for entry in counters.read_text().splitlines())
                return next((int(pair[1]) for pair in pairs if pair[0] == "oom_kill"), None)
    except OSError:  # the process ended in between
        return None
    return None
