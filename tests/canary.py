"""Where a secret turns up that should be in one place only."""

from __future__ import annotations

from pathlib import Path


def files_with(folder: Path, *secrets: str) -> list[str]:
    """Files below `folder` with one of them in their names or bytes; what vanishes meanwhile has none."""
    return [str(path) for path in sorted(folder.rglob("*")) if _holds(path, secrets)]


def _holds(path: Path, secrets: tuple[str, ...]) -> bool:
    if any(secret in path.name for secret in secrets):
        return True
    try:
        text = path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:
        return False
    return any(secret.encode() in text for secret in secrets)


def command_lines() -> list[str]:
    """Of every process of the host."""
    return [_read(folder / "cmdline").replace("\0", " ").strip() for folder in _processes()]


def commands_that_know(secret: str) -> list[str]:
    """The command lines of processes whose environment holds it."""
    knowing = [folder for folder in _processes() if secret in _read(folder / "environ")]
    return [_read(folder / "cmdline").replace("\0", " ").strip() for folder in knowing]


def _processes() -> list[Path]:
    return [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended, or is somebody else's
        return ""
