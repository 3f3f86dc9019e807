"""The runner as it was at the daemon's start: copied once by content hash, so that an upgrade of lemctl cannot change
it under a live session, and both ends of the contract come from one installation."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunnerCopy:
    """`root` is what goes on PYTHONPATH (it contains `lem_runner`)."""

    root: Path
    hash: str


def copy_runner(source: Path, into: Path) -> RunnerCopy:
    """Copy the package `source` to `into/<hash>/lem_runner`, readable by any uid, unless it is there and whole.

    A copy that is not what its name says (a power failure, somebody's hand) is made anew.
    """
    name = _digest(source)
    target = into / name
    if not target.is_dir() or _digest(target / "lem_runner") != name:
        partial = Path(tempfile.mkdtemp(dir=into, prefix=".partial-"))
        for file in _files(source):
            copy = partial / "lem_runner" / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(target, ignore_errors=True)
        try:
            partial.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return RunnerCopy(target, name)


def _files(package: Path) -> list[Path]:
    return sorted(p for p in package.rglob("*.py") if "__pycache__" not in p.parts)


def _digest(package: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(package):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
