"""For any described parameter a value that it takes, other than its default, and values that it does not.

Made from the description alone, so that a test over a whole catalogue needs no list of its own. Standard library only:
the engines' interpreters import it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lem_runner.parameters import Parameter

_PLAIN: dict[str, Any] = {
    "int": 3, "float": 0.5, "str": "a", "list[int]": [1, 2], "list[float]": [0.5], "list[str]": ["a"],
    "list": [1], "dict": {}, "any": 1,
}  # fmt: skip


def taken(parameter: Parameter) -> Any:
    """A value that the description allows."""
    if parameter.choices is not None:
        others = [choice for choice in parameter.choices if choice != parameter.default]
        return others[0] if others else parameter.choices[0]
    kind = parameter.type.split(" | ")[0]
    if kind == "bool":
        return parameter.default is not True
    if kind == "dict" and parameter.fields:
        return _some_field(parameter)
    value = _PLAIN[kind]
    if parameter.minimum is not None and isinstance(value, (int, float)):
        value = max(value, type(value)(parameter.minimum))
    if parameter.maximum is not None and isinstance(value, (int, float)):
        value = min(value, type(value)(parameter.maximum))
    if value == parameter.default and kind == "int":
        value += 1
    return value


def _some_field(parameter: Parameter) -> dict[str, Any]:
    """The first key that stands alone, with whatever it needs beside it."""
    offered = [field for field in parameter.fields if not field.refused and not field.only_with]
    return {offered[0].name: taken(offered[0])}


def not_taken(parameter: Parameter) -> Iterator[Any]:
    """Values that the description does not allow: of another type, out of range, none of the choices."""
    kinds = set(parameter.type.split(" | "))
    if parameter.choices is not None:
        yield "none of these"
    elif "any" not in kinds:
        if not kinds & {"str"}:
            yield "text"
        if not kinds & {"dict"}:
            yield {"a": 1}
        if not kinds & {"bool"}:
            yield True
        if kinds <= {"int", "None"}:
            yield 1.5
    if parameter.default is not None and "None" not in kinds:
        yield None
    if parameter.minimum is not None:
        yield parameter.minimum - 1
    if parameter.maximum is not None:
        yield parameter.maximum + 1
