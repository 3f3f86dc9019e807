"""What an engine can be set to: one parameter, and the check of a value against it.

A runner's `describe` prints these, `images/<backend>/params.json` keeps them, and both ends check with the same words:
a campaign file on the host with nothing heavy installed, a run in the runner. Pure: no engine, no I/O.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lem_runner.failures import BadRequestError

Group = Literal["engine", "sampling"]
Stability = Literal["stable", "beta", "prototype", "deprecated", "unknown"]
#: One of the types below, or several joined by ` | `.
TypeName = str

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "text"),
    "list": ((list, tuple), "a list"),
    "dict": ((dict,), "a mapping"),
}
#: Names of the limits of a number; the exclusive ones are no legal values themselves.
_BOUNDS = ("minimum", "exclusive_minimum", "maximum", "exclusive_maximum")
_LIST_OF = re.compile(r"list\[(.+)\]")


@dataclass(frozen=True)
class Parameter:
    """One thing that can be set. `None` is a legal value where it is the default, or one of the types.

    `type` is `bool`, `int`, `float`, `str`, `list`, `list[TYPE]`, `dict`, `None` or `any`, or several joined by ` | `;
    `any` is checked by the engine alone. `fields` are the keys of a mapping. `only_with` names other parameters of the
    group and their values with which this one exists. `refused` is the reason why it cannot be set by a campaign.
    """

    name: str
    type: TypeName
    default: Any
    group: Group
    doc: str = ""
    stability: Stability = "stable"
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    fields: tuple[Parameter, ...] = ()
    only_with: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    refused: str = ""
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; what says nothing is left out."""
        body: dict[str, Any] = {"name": self.name, "type": self.type, "default": self.default}
        body |= {"group": self.group, "stability": self.stability}
        if self.choices is not None:
            body["choices"] = list(self.choices)
        for key in _BOUNDS:
            if getattr(self, key) is not None:
                body[key] = getattr(self, key)
        if self.only_with:
            body["only_with"] = {name: list(values) for name, values in self.only_with}
        for key in ("refused", "doc"):
            if getattr(self, key):
                body[key] = getattr(self, key)
        if self.fields:
            body["fields"] = [field.to_json() for field in self.fields]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Parameter:
        """Read what `to_json` made. Raises `KeyError` or `TypeError` where it is something else."""
        choices = body.get("choices")
        return cls(
            name=body["name"],
            type=body["type"],
            default=body.get("default"),
            group=body["group"],
            doc=body.get("doc", ""),
            stability=body.get("stability", "unknown"),
            choices=None if choices is None else tuple(choices),
            minimum=body.get("minimum"),
            maximum=body.get("maximum"),
            fields=tuple(cls.from_json(field) for field in body.get("fields", ())),
            only_with=tuple((name, tuple(values)) for name, values in body.get("only_with", {}).items()),
            refused=body.get("refused", ""),
            exclusive_minimum=body.get("exclusive_minimum"),
            exclusive_maximum=body.get("exclusive_maximum"),
        )

    def mistake(self, value: Any) -> str | None:
        """What is wrong with `value`, in words that follow the parameter's name; None where it can be set."""
        if self.refused:
            return f"cannot be set: {self.refused}"
        if value is None:
            return None if self.default is None or "None" in self.type.split(" | ") else "must have a value"
        if self.choices is not None:
            return None if any(_same(value, choice) for choice in self.choices) else self._no_choice(value)
        wanted = _wrong_type(self.type, value)
        if wanted is not None:
            return f"must be {wanted}, found {_shown(value)}"
        if self.fields and isinstance(value, dict):
            return _wrong_field(self.fields, value)
        return self._out_of_range(value)

    def normal(self, value: Any) -> Any:
        """A checked value in the parameter's own type: `1` for a float is `1.0`, so that both hash alike."""
        is_int = isinstance(value, int) and not isinstance(value, bool)
        return float(value) if is_int and self.type.removesuffix(" | None") == "float" else value

    def _no_choice(self, value: Any) -> str:
        words = [choice for choice in self.choices or () if isinstance(choice, str)]
        near = nearest(value, words) if isinstance(value, str) else ""
        return f"found {_shown(value)}; allowed: {', '.join(_word(choice) for choice in self.choices or ())}{near}"

    def _out_of_range(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if not math.isfinite(value):
            return f"must be a finite number, found {value}"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum:g}, found {value}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum:g}, found {value}"
        if self.exclusive_minimum is not None and value <= self.exclusive_minimum:
            return f"must be above {self.exclusive_minimum:g}, found {value}"
        if self.exclusive_maximum is not None and value >= self.exclusive_maximum:
            return f"must be below {self.exclusive_maximum:g}, found {value}"
        return None


def resolve(parameters: Iterable[Parameter], group: Group, given: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of one group overlaid with what was given; a wrong name or value is a `BadRequestError`.

    What cannot be set, or does not exist beside the others' values, is left out.
    """
    known = {parameter.name: parameter for parameter in parameters if parameter.group == group}
    check(known, group, given)
    whole = {name: given.get(name, row.default) for name, row in known.items() if not row.refused}
    return {name: value for name, value in whole.items() if misplaced(known[name], whole) is None}


def check(known: Mapping[str, Parameter], group: Group, given: Mapping[str, Any]) -> None:
    """Raise `BadRequestError` for the first name or value in `given` that `known` does not allow."""
    whole = {name: given.get(name, row.default) for name, row in known.items()}
    for name, value in given.items():
        if name not in known:
            raise BadRequestError(f"unknown {group} parameter {name!r}{nearest(name, list(known))}")
        reason = known[name].mistake(value) or misplaced(known[name], whole)
        if reason is not None:
            raise BadRequestError(f"{group} parameter {name!r}: {reason}")


def misplaced(parameter: Parameter, whole: Mapping[str, Any]) -> str | None:
    """Why `parameter` does not exist beside the values in `whole`; None where it does."""
    for name, values in parameter.only_with:
        if whole.get(name) not in values:
            return f"only with {name}: {' or '.join(map(_word, values))}, found {_word(whole.get(name))}"
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the closest of the known names, else nothing."""
    import difflib  # only where there is a mistake to explain

    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def type_words(written: str) -> str:
    """A written type as a person would say it."""
    return " or ".join(dict.fromkeys(_words(part) for part in written.split(" | ") if part != "None"))


def _words(alternative: str) -> str:
    inner = _LIST_OF.fullmatch(alternative)
    if inner is not None:
        return f"a list of {_TYPES[inner[1]][1].removeprefix('a ').removesuffix('s')}s"
    return _TYPES[alternative][1] if alternative in _TYPES else "anything the engine takes"


def _wrong_type(written: str, value: Any) -> str | None:
    """What the value should be, where none of the types written fits; None where one fits."""
    alternatives = written.split(" | ")
    return None if any(_is_of(alternative, value) for alternative in alternatives) else type_words(written)


def _is_of(alternative: str, value: Any) -> bool:
    inner = _LIST_OF.fullmatch(alternative)
    if inner is not None:
        return isinstance(value, (list, tuple)) and all(_is_of(inner[1], item) for item in value)
    if alternative not in _TYPES:
        return alternative != "None"
    types, _ = _TYPES[alternative]
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _wrong_field(fields: Iterable[Parameter], value: Mapping[str, Any]) -> str | None:
    known = {field.name: field for field in fields}
    for name, inner in value.items():
        if name not in known:
            return f"has no key {name!r}{nearest(str(name), list(known))}"
        reason = known[name].mistake(inner) or misplaced(known[name], value)
        if reason is not None:
            return f"{name}: {reason}"
    return None


def _same(value: Any, choice: Any) -> bool:
    """Equal, and not merely as True equals 1."""
    return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)


def _word(value: Any) -> str:
    """As a campaign file writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
