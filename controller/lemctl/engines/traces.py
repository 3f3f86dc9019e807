"""Recorded arrivals where runners can read them: in the prompt folder, as seconds after the first, one a line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lem_runner.prompts import file_sha256
from lemctl.campaign.trace import read_arrivals

MODE = 0o644


def trace_of(workload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The trace that a specified workload plays, None for another load."""
    found: Mapping[str, Any] | None = workload["load"].get("trace")
    return found


def trace_path(trace: Mapping[str, Any], folder: Path) -> Path:
    """The prepared file in the prompt folder, whether it is there or not; named by the content of the original."""
    return folder / f"trace-{trace['sha256'][:32]}.txt"


def prepare_trace(trace: Mapping[str, Any], sources: Sequence[Path], folder: Path) -> str | None:
    """Write the prepared file from the original in one of the `sources` folders; what is wrong, None when it is there.

    One name, then all of it or nothing: a file that is there is whole.
    """
    path = trace_path(trace, folder)
    if path.exists():
        return None
    for source in (folder / trace["name"] for folder in sources):
        if source.is_file() and file_sha256(source) == trace["sha256"]:
            text = "".join(f"{moment_s!r}\n" for moment_s in read_arrivals(source))
            temporary = path.with_name(f".{path.name}.tmp")
            with temporary.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(MODE)
            temporary.replace(path)
            return None
    return f"file:{trace['name']} is gone or has changed since the campaign file was read"
