"""The parameters as rows of text: what the command line shows and the reference prints. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lem_runner import portable
from lem_runner.parameters import Parameter
from lemctl.campaign.catalogue import Catalogue

PORTABLE_HEADER = ("key", *portable.BACKENDS)
HEADER = ("key", "values", "default", "stability", "meaning")


def portable_rows() -> Iterator[tuple[str, ...]]:
    """One row a portable parameter: its key, and for each engine what it sets there or why there is none."""
    for row in portable.TABLE:
        yield row.key, *(cell_words(row.cell(backend)) for backend in portable.BACKENDS)


def cell_words(cell: portable.Cell) -> str:
    """A cell of the portable table in words."""
    if isinstance(cell, portable.Lacks):
        return f"none: {cell.reason}"
    if isinstance(cell, portable.Own):
        return f"({cell.how})"
    return ", ".join(_assignment(name, word) for name, word in cell.items())


def _assignment(name: str, word: Any) -> str:
    if not isinstance(word, Mapping):
        return name
    return ", ".join(f"{name} = {_json(own)} where {_json(value).strip(chr(34))}" for value, own in word.items())


def catalogue_rows(catalogue: Catalogue, word: str = "") -> list[tuple[str, ...]]:
    """One row a parameter, keys inside mappings included, where `word` is in its key or its meaning."""
    rows = []
    for parameter in catalogue.parameters.values():
        key = f"{catalogue.backend}.{parameter.group}.{parameter.name}"
        rows.append(_row(key, parameter))
        if not parameter.refused:
            rows += [_row(f"{key}.{field.name}", field) for field in parameter.fields]
    wanted = word.lower()
    return [row for row in rows if wanted in f"{row[0].partition('.')[2]} {row[-1]}".lower()]


def _row(key: str, parameter: Parameter) -> tuple[str, ...]:
    if parameter.refused:
        return key, "", "", parameter.stability, f"cannot be set: {parameter.refused}"
    default = "" if parameter.default is None else _json(parameter.default)
    return key, values_words(parameter), default, parameter.stability, _meaning(parameter)


def values_words(parameter: Parameter) -> str:
    """Type, choices and range."""
    if parameter.choices is not None:
        return " | ".join(choice if isinstance(choice, str) else _json(choice) for choice in parameter.choices)
    if parameter.minimum is not None and parameter.maximum is not None:
        return f"{parameter.type}, {parameter.minimum:g} to {parameter.maximum:g}"
    limits = {
        "at least": parameter.minimum,
        "above": parameter.exclusive_minimum,
        "at most": parameter.maximum,
        "below": parameter.exclusive_maximum,
    }
    return ", ".join([parameter.type, *(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)])


def _meaning(parameter: Parameter) -> str:
    only = "; ".join(
        f"only with {name}: {' or '.join(value if isinstance(value, str) else _json(value) for value in values)}"
        for name, values in parameter.only_with
    )
    return "; ".join(part for part in (parameter.doc, only) if part)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
