"""The git commit that the running code was checked out from, if it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

TIMEOUT_S = 5.0


def commit() -> str | None:
    """`c908d66` or `c908d66, modified`; None when installed from a wheel, or without git."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        said = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=, modified", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
