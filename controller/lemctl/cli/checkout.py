"""The git commit that the running code is of: asked of its checkout, or written into its wheel when that was built."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lemctl.paths import built_from

TIMEOUT_S = 5.0


def commit() -> str | None:
    """`c908d66` or `c908d66, modified`; None where the wheel was built outside a checkout, or without git."""
    if built := built_from():
        return built[0][:7] + (", modified" if built[1] else "")
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
