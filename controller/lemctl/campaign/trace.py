"""Recorded arrivals from a local file: text, CSV, JSON or JSON Lines. What is wrong is said with the line."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Looked for in this order in objects and in the header of a CSV file.
COLUMNS = ("arrival_s", "arrival", "timestamp", "time")
SUFFIXES = (".txt", ".csv", ".json", ".jsonl")


def read_arrivals(path: Path) -> list[float]:
    """Seconds after the first arrival, ascending. Raises `ValueError` with one sentence."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.name}: a trace ends in one of {', '.join(SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not UTF-8 text") from None
    moments: list[float] = []
    for where, value in _values(path, text):
        moment_s = _seconds(value)
        if moment_s is None:
            raise ValueError(f"{path.name}, {where}: {value!r} is no time in seconds")
        if moments and moment_s < moments[-1]:
            raise ValueError(f"{path.name}, {where}: {moment_s:g} comes after {moments[-1]:g}; arrivals must ascend")
        moments.append(moment_s)
    if len(moments) < 2:
        raise ValueError(f"{path.name}: {len(moments)} arrivals; a trace has at least 2")
    # To the nanosecond, as clocks have it.
    return [round(moment_s - moments[0], 9) for moment_s in moments]


def _values(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Each entry with the place where it stands."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        reader = csv.DictReader(text.splitlines())
        for row in reader:
            yield f"line {reader.line_num}", _field(row)
    elif suffix == ".json":
        entries = _parsed(path, "file", text)
        if not isinstance(entries, list):
            raise ValueError(f"{path.name}: a list of arrivals is needed, found {type(entries).__name__}")
        yield from ((f"item {number}", _field(entry)) for number, entry in enumerate(entries))
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                entry = _parsed(path, f"line {number}", line) if suffix == ".jsonl" else line.strip()
                yield f"line {number}", _field(entry)


def _parsed(path: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name}, {where}: no JSON") from None


def _field(entry: Any) -> Any:
    """The arrival in an entry: itself, or one of its `COLUMNS`."""
    if not isinstance(entry, dict):
        return entry
    return next((entry[name] for name in COLUMNS if entry.get(name) is not None), entry)


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        moment_s = float(value)
    except ValueError:
        return None
    return moment_s if math.isfinite(moment_s) else None
