"""The catalogues of engine parameters: what a backend's installed engine accepts, as its runner described it.

Reads `images/<backend>/params.json` with nothing heavy installed, and checks scoped parameters against it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lemctl.campaign.keys import listed, nearest

_OPTIONAL = re.compile(r"(?:typing\.)?Optional\[(.*)\]")
_LITERAL = re.compile(r"(?:typing\.)?Literal\[(.*)\]")
_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "text"),
    "list": ((list,), "a list"),
    "tuple": ((list,), "a list"),
    "dict": ((dict,), "a mapping"),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an engine. `group` is `engine` or `sampling`; `type` as the engine's own signature says it."""

    name: str
    type: str
    default: Any
    group: str
    stability: str
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All parameters of a backend, by (group, name)."""

    backend: str
    engine_version: str | None
    parameters: Mapping[tuple[str, str], Parameter]

    def mistake(self, group: str, name: str, value: Any) -> str | None:
        """What is wrong with `name: value`, or None."""
        parameter = self.parameters.get((group, name))
        if parameter is None:
            names = [known for found, known in self.parameters if found == group]
            engine = f"{self.backend} {self.engine_version}" if self.engine_version else self.backend
            return f"{engine} has no {group} parameter {name!r}{nearest(name, names)}"
        return _mistake(parameter, value)

    def normal(self, group: str, name: str, value: Any) -> Any:
        """A checked value in the parameter's own type: `1` for a float is `1.0`, so that both hash alike."""
        is_int = isinstance(value, int) and not isinstance(value, bool)
        return float(value) if is_int and set(_alternatives(self.parameters[group, name].type)) == {"float"} else value


def load_catalogue(images: Path, backend: str) -> Catalogue | None:
    """The catalogue of `backend` in the folder `images`; None without one. Raises `ValueError` if unreadable."""
    path = images / backend / "params.json"
    if not path.is_file():
        return None
    try:
        body = json.loads(path.read_text("utf-8"))
        parameters = {}
        for row in body["parameters"]:
            choices = row.get("choices")
            parameters[row["group"], row["name"]] = Parameter(
                name=row["name"],
                type=row["type"],
                default=row.get("default"),
                group=row["group"],
                stability=row.get("stability", ""),
                choices=tuple(choices) if choices is not None else None,
                minimum=row.get("minimum"),
                maximum=row.get("maximum"),
                doc=row.get("doc", ""),
            )
        return Catalogue(backend, body["engine_version"], parameters)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the catalogue {path} cannot be read: {error!r}") from error


def _mistake(parameter: Parameter, value: Any) -> str | None:
    if value is None:
        takes_none = parameter.default is None or "None" in parameter.type or "Optional" in parameter.type
        return None if takes_none else "must have a value"
    if parameter.choices is not None and not any(_same(value, choice) for choice in parameter.choices):
        near = nearest(value, [c for c in parameter.choices if isinstance(c, str)]) if isinstance(value, str) else ""
        return f"found {value!r}; allowed: {listed(map(str, parameter.choices))}{near}"
    if parameter.choices is None and (wanted := _wrong_type(parameter.type, value)):
        return f"must be {wanted}, found {value!r}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if parameter.minimum is not None and value < parameter.minimum:
            return f"must be at least {parameter.minimum}, found {value}"
        if parameter.maximum is not None and value > parameter.maximum:
            return f"must be at most {parameter.maximum}, found {value}"
    return None


def _same(value: Any, choice: Any) -> bool:
    """Equal, and not merely as True equals 1."""
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)


def _wrong_type(written: str, value: Any) -> str | None:
    """What the value should be, where none of the types written fits; None where one fits or the type is unknown."""
    wanted = []
    for name in _alternatives(written):
        known = _TYPES.get(name.partition("[")[0].strip().lower())
        if known is None:
            return None
        types, words = known
        if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
            return None
        wanted.append(words)
    return " or ".join(dict.fromkeys(wanted)) or None


def _alternatives(written: str) -> list[str]:
    text = written.strip()
    if _LITERAL.fullmatch(text):
        return ["?"]
    if found := _OPTIONAL.fullmatch(text):
        text = found[1]
    if text.startswith(("Union[", "typing.Union[")):
        text = text.partition("[")[2].removesuffix("]").replace(", ", " | ")
    return [part.strip() for part in text.split(" | ") if part.strip() not in ("None", "NoneType")]
