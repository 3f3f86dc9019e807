"""Who this runner is: the hash of its sources, the versions it found. Nothing of an engine is imported."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from lem_runner import backends
from lem_runner.protocol import CONTRACT_VERSION


def runner_hash(package: Path) -> str:
    """sha256 over names and contents of every Python file below `package`: the same at both ends of the contract."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        name = path.relative_to(package).as_posix().encode()
        content = path.read_bytes()
        digest.update(b"%d:%s%d:" % (len(name), name, len(content)))
        digest.update(content)
    return digest.hexdigest()


def hello() -> dict[str, Any]:
    """The data of the `hello` event."""
    return {
        "contract": CONTRACT_VERSION,
        "runner_hash": runner_hash(Path(__file__).parent),
        "python": platform.python_version(),
        "pid": os.getpid(),
        "boot_id": boot_id(),
        "backends": backends.names(),
        "packages": package_versions(backends.packages()),
    }


def boot_id() -> str | None:
    """The kernel's boot id, which says whether two monotonic clocks are the same one; None where it is not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed."""
    versions = {name: _package_version(name) for name in names}
    return {name: version for name, version in versions.items() if version is not None}


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
