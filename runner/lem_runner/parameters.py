"""What a backend can be set to: a table of parameters, and the check of what was asked against it.

The same table is printed by ``describe`` and committed as ``images/<backend>/params.json``, so that a campaign file is
checked on the host with nothing heavy installed. Pure: no engine, no I/O.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lem_runner.failures import BadRequestError

Group = Literal["engine", "sampling"]
Stability = Literal["stable", "beta", "prototype", "unknown"]
#: JSON types. `any` is checked by the engine alone.
TypeName = Literal["bool", "int", "float", "str", "list", "dict", "any"]

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
}


@dataclass(frozen=True)
class Parameter:
    """One thing that can be set. `None` is a legal value exactly when it is the default."""

    name: str
    type: TypeName
    default: Any
    group: Group
    doc: str = ""
    stability: Stability = "stable"
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; what says nothing is left out."""
        body: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "default": self.default,
            "group": self.group,
            "stability": self.stability,
        }
        if self.choices is not None:
            body["choices"] = list(self.choices)
        for key in ("minimum", "maximum"):
            if getattr(self, key) is not None:
                body[key] = getattr(self, key)
        if self.doc:
            body["doc"] = self.doc
        return body

    def check(self, value: Any) -> None:
        """Raise `BadRequestError` unless `value` can be set."""
        where = f"{self.group} parameter {self.name!r}"
        if value is None and self.default is None:
            return
        if self.type != "any":
            is_right = isinstance(value, _PYTHON_TYPES[self.type])
            if not is_right or (isinstance(value, bool) and self.type != "bool"):
                raise BadRequestError(f"{where}: {value!r} is not of type {self.type}")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRequestError(f"{where}: {value!r} is not a finite number")
        if self.choices is not None and value not in self.choices:
            raise BadRequestError(f"{where}: {value!r} is none of {', '.join(map(str, self.choices))}")
        if self.minimum is not None and value < self.minimum:
            raise BadRequestError(f"{where}: {value!r} is below {self.minimum:g}")
        if self.maximum is not None and value > self.maximum:
            raise BadRequestError(f"{where}: {value!r} is above {self.maximum:g}")


def resolve(parameters: Iterable[Parameter], group: Group, given: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of one group overlaid with what was given; a wrong name or value is a `BadRequestError`."""
    known = {parameter.name: parameter for parameter in parameters if parameter.group == group}
    check(known, group, given)
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}


def check(known: Mapping[str, Parameter], group: Group, given: Mapping[str, Any]) -> None:
    """Raise `BadRequestError` for the first name or value in `given` that `known` does not allow."""
    for name, value in given.items():
        if name not in known:
            raise BadRequestError(f"unknown {group} parameter {name!r}{_nearest(name, list(known))}")
        known[name].check(value)


def _nearest(name: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f" (nearest: {matches[0]!r})" if matches else ""
