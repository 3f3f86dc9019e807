"""Rows of text from a local file: one prompt each, from text, JSON Lines, JSON or CSV. Standard library only."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: Looked for in this order where no column is named.
PROMPT_COLUMNS = ("prompt", "text", "question", "instruction")
SUFFIXES = (".txt", ".jsonl", ".json", ".csv")


class DataError(ValueError):
    """A data file that gives no prompts; the message names the file and the place."""


def read_rows(path: Path, column: str | None = None) -> list[str]:
    """Every prompt of a file in its order, blank ones left out.

    A column named `instruction` is joined with a filled `input` beside it, as data sets of that form mean it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: a data file ends in one of {', '.join(SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    if suffix == ".txt":
        rows: Iterable[str] = text.splitlines()
    elif suffix == ".csv":
        rows = _csv_rows(path, text, column)
    else:
        rows = (_prompt_of(path, where, value, column) for where, value in _json_values(path, suffix, text))
    prompts = [row for row in rows if row.strip()]
    if not prompts:
        raise DataError(f"{path}: no prompts in it")
    return prompts


def _json_values(path: Path, suffix: str, text: str) -> Iterator[tuple[str, Any]]:
    if suffix == ".json":
        values = _parsed(path, "file", text)
        if not isinstance(values, list):
            raise DataError(f"{path}: a list of prompts is needed, found {type(values).__name__}")
        for number, value in enumerate(values):
            yield f"item {number}", value
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _parsed(path, f"line {number}", line)


def _parsed(path: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {where}: no JSON: {error}") from error


def _csv_rows(path: Path, text: str, column: str | None) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(text.splitlines(keepends=True))
    try:
        for row in reader:
            yield _prompt_of(path, f"line {reader.line_num}", row, column)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error


def _prompt_of(path: Path, where: str, value: Any, column: str | None) -> str:
    if isinstance(value, str) and column is None:
        return value
    if not isinstance(value, dict):
        raise DataError(f"{path}: {where}: a string or an object is needed, found {type(value).__name__}")
    wanted = PROMPT_COLUMNS if column is None else (column,)
    found = next((name for name in wanted if isinstance(value.get(name), str)), None)
    if found is None:
        has = ", ".join(str(name) for name in value) or "nothing"
        raise DataError(f"{path}: {where}: no column {' or '.join(wanted)} with text (it has {has})")
    prompt: str = value[found]
    extra = value.get("input")
    if found == "instruction" and isinstance(extra, str) and extra.strip():
        prompt = f"{prompt}\n\n{extra}"
    return prompt
