"""One line about the machine that figures were made on: what they depend on, and nothing that names it."""

from __future__ import annotations

import os
import platform


def describe_machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"Machine: {os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}."
