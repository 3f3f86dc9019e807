"""Small pieces of text that every part shows alike: counts, durations, sizes."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """`850 ms`, `12.3 s`, `4 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count_b: float) -> str:
    """`512 B`, `1.5 MB`, `2.1 GB`: powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count_b) < 1000:
            return f"{count_b:.0f} {unit}" if unit == "B" else f"{count_b:.1f} {unit}"
        count_b /= 1000
    return f"{count_b:.1f} TB"
