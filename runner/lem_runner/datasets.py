"""Rows of a data file as they stand there: text, JSON Lines, JSON, CSV, Parquet. What of a row is a prompt is `forms`.

Standard library only, but for Parquet, which needs pyarrow.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".parquet")
#: Rows of a Parquet file held in memory at a time.
PARQUET_BATCH = 4096

#: (where it stands, for a message; a text, or column -> value)
Row = tuple[str, Any]


class DataError(ValueError):
    """A data file that gives no prompts; the message names the file and the place."""


def read_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[Row]:
    """Every row of a file in its order. `columns`: all that is asked of a row; Parquet reads no others.

    Raises `DataError` for what cannot be read.
    """
    readers = {".txt": _text, ".jsonl": _json_lines, ".json": _json, ".csv": _csv}
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: a data file ends in one of {', '.join(SUFFIXES)}")
    try:
        yield from _parquet(path, columns) if suffix == ".parquet" else readers[suffix](path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error


def _text(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        yield f"line {number}", line


def _json_lines(path: Path) -> Iterator[Row]:
    # Only a line feed ends a line: JSON may hold every other separator as it is.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number}", _parsed(path, f"line {number}", line)


def _json(path: Path) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        if "Extra data" not in str(error):
            raise DataError(f"{path}: file: no JSON: {error}") from error
        yield from _json_lines(path)  # JSON Lines under the other name, as many data sets have it
        return
    if not isinstance(values, list):
        raise DataError(f"{path}: a list of prompts is needed, found {type(values).__name__}")
    for number, value in enumerate(values):
        yield f"item {number}", value


def _parsed(path: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {where}: no JSON: {error}") from error


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(keepends=True))
    try:
        for row in reader:
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error


def _parquet(path: Path, columns: Collection[str] | None) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs pyarrow, which this interpreter does not have") from error
    try:
        with ParquetFile(path) as file:
            there = file.schema_arrow.names
            wanted = None if columns is None else [name for name in there if name in columns]
            # Rows without a column that is asked for are told by all that the file has.
            chosen = wanted if wanted and columns is not None and len(wanted) == len(set(columns)) else None
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=chosen):
                for value in batch.to_pylist():
                    yield f"row {number}", value
                    number += 1
    except ArrowException as error:
        raise DataError(f"{path}: no Parquet file: {error}") from error
