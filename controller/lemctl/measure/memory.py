"""Memory of the host, as the kernel tells it. Not the GPU's, which `gpu.py` reads."""

from __future__ import annotations

from pathlib import Path

from lemctl.lines import size

#: The controller, a runner without weights, and some air: with less than this available no run starts.
LEAST_MEMORY_B = 1_000_000_000


def meminfo_b(root: Path = Path("/")) -> dict[str, int]:
    """The lines of /proc/meminfo that are in bytes; empty where the kernel does not tell."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): int(rest.split()[0]) * 1024 for name, _, rest in pairs if rest.strip().endswith("kB")}


def memory_lack(root: Path = Path("/")) -> str | None:
    """Why the host's memory does not suffice for another run, in words; None where it does, or nobody tells."""
    available_b = meminfo_b(root).get("MemAvailable")
    if available_b is None or available_b >= LEAST_MEMORY_B:
        return None
    return (
        f"memory of this host: {size(available_b)} available, {size(LEAST_MEMORY_B)} needed; `ps aux --sort -rss` shows"
        " who holds it"
    )
