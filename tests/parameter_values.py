"""For any described parameter a value that it takes, other than its default, and values that it does not.

Made from the description alone, so that a test over a whole catalogue needs no list of its own. Standard library only:
the engines' interpreters import it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lem_runner.parameters import Parameter

_CANDIDATES: dict[str, tuple[Any, ...]] = {
    "int": (3, 4), "float": (0.5, 0.25), "str": ("a", "b"), "list[int]": ([1, 2], [3]), "list[float]": ([0.5], [0.25]),
    "list[str]": (["a"], ["b"]), "list": ([1], [2]), "dict": ({"1": 2}, {"3": 4}), "any": (1, 2),
}  # fmt: skip


def taken(parameter: Parameter) -> Any:
    """A value that the description allows and, unless it allows no other, not the default."""
    if parameter.choices is not None:
        others = [choice for choice in parameter.choices if choice != parameter.default]
        return others[0] if others else parameter.choices[0]
    kind = parameter.type.split(" | ")[0]
    if kind == "bool":
        return parameter.default is not True
    if kind == "dict" and parameter.fields:
        return _some_field(parameter)
    candidates = _CANDIDATES[kind]
    if kind in ("int", "float"):
        step = type(candidates[0])(1)
        candidates += tuple(bound + step for bound in (parameter.minimum,) if bound is not None)
        candidates += tuple(bound - step for bound in (parameter.maximum,) if bound is not None)
    return next(value for value in candidates if parameter.mistake(value) is None and value != parameter.default)


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
    yield from (bound for bound in (parameter.exclusive_minimum, parameter.exclusive_maximum) if bound is not None)
