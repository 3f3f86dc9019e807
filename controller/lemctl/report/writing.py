"""Rows to files: CSV, JSON lines, Parquet. Rows come one by one, and none of the forms holds them all at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from lemctl.errors import PreflightRefused
from lemctl.report.fields import Field

JSON_SCHEMA = 1
Form = Literal["csv", "json", "parquet"]
FORMS: tuple[Form, ...] = ("csv", "json", "parquet")
#: Rows of a Parquet row group.
GROUP = 100_000
NO_PYARROW = "Parquet needs pyarrow; install it with `pip install 'lemctl[report]'`"

Row = Sequence[Any]


def write_csv(file: TextIO, fields: Sequence[Field], rows: Iterable[Row]) -> int:
    """A head line and one line a row; the number of rows."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([field.name for field in fields])
    count = 0
    for count, row in enumerate(_flat(fields, rows), 1):  # noqa: B007 - the last number is the count
        writer.writerow(row)
    return count


def write_json(file: TextIO, kind: str, fields: Sequence[Field], rows: Iterable[Row]) -> int:
    """JSON lines: a first one with the schema's version, then one object a row; the number of rows."""
    file.write(json.dumps({"schema": JSON_SCHEMA, "kind": kind}) + "\n")
    names = [field.name for field in fields]
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the last number is the count
        file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n")
    return count


def write_parquet(path: Path, fields: Sequence[Field], rows: Iterable[Row]) -> int:
    """One Parquet file with the columns' meaning in its schema; the number of rows. Raises `PreflightRefused` without
    pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise PreflightRefused(NO_PYARROW) from None
    types = {"text": pyarrow.string(), "integer": pyarrow.int64(), "number": pyarrow.float64()}
    columns = [
        pyarrow.field(f.name, types.get(f.kind, types["text"]), f.may_lack, {"meaning": f.meaning}) for f in fields
    ]
    schema, count = pyarrow.schema(columns), 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(_flat(fields, rows)):
            values = [list(column) for column in zip(*group, strict=True)]
            arrays = [pyarrow.array(column, one.type) for column, one in zip(values, columns, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(group)
    return count


def _flat(fields: Sequence[Field], rows: Iterable[Row]) -> Iterator[list[Any]]:
    """Objects as JSON text, for forms that have none."""
    objects = [place for place, field in enumerate(fields) if field.kind == "object"]
    for row in rows:
        flat = list(row)
        for place in objects:
            flat[place] = json.dumps(flat[place], ensure_ascii=False)
        yield flat


def _groups(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    while group := list(islice(rows, GROUP)):
        yield group
