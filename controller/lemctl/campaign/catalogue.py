"""The catalogues of engine parameters: what a backend's installed engine accepts, as its runner described it.

Reads `images/<backend>/params.json` with nothing heavy installed, and checks scoped parameters against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lem_runner.parameters import Parameter, misplaced
from lemctl.campaign.keys import nearest

__all__ = ["Catalogue", "Drift", "Parameter", "drift", "load_catalogue", "read_catalogue"]

#: Parameters of these labels may change or vanish with the next version of the engine.
UNSETTLED = ("prototype", "deprecated")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All parameters of a backend, by (group, name), and the modes of load that it serves."""

    backend: str
    engine_version: str | None
    parameters: Mapping[tuple[str, str], Parameter]
    #: Where it comes from, where that is not the installed engine itself.
    source: str = ""
    loads: tuple[str, ...] = ("offline",)

    @property
    def engine(self) -> str:
        """`vllm 0.32.0`."""
        return f"{self.backend} {self.engine_version}" if self.engine_version else self.backend

    def find(self, group: str, name: str) -> Parameter | None:
        """A parameter, or the key `NAME.KEY` inside a mapping."""
        head, _, rest = name.partition(".")
        found = self.parameters.get((group, head))
        if found is None or not rest:
            return found
        return next((field for field in found.fields if field.name == rest), None)

    def mistake(self, group: str, name: str, value: Any) -> str | None:
        """What is wrong with `name: value`, or None."""
        parameter = self.find(group, name)
        if parameter is not None:
            return parameter.mistake(value)
        known = [f"{each.name}.{key.name}" for each in self.group(group) for key in each.fields if "." in name]
        known += [each.name for each in self.group(group)]
        return f"{self.engine} has no {group} parameter {name!r}{nearest(name, known)}"

    def normal(self, group: str, name: str, value: Any) -> Any:
        """A checked value in the parameter's own type."""
        parameter = self.find(group, name)
        return value if parameter is None else parameter.normal(value)

    def unsettled(self, group: str, name: str) -> str | None:
        """A sentence on a parameter that the engine itself does not call settled; None for the others."""
        parameter = self.find(group, name)
        if parameter is None or parameter.stability not in UNSETTLED:
            return None
        words = "is deprecated" if parameter.stability == "deprecated" else f"is a {parameter.stability}"
        return f"{words} in {self.engine}: another version may lack it"

    def misplaced(self, group: str, values: Mapping[str, Any]) -> tuple[str, str] | None:
        """(name, reason) of the first of `values` that does not exist beside the others; None where all do."""
        rows = self.group(group)
        whole = {row.name: values.get(row.name, row.default) for row in rows}
        for row in rows:
            if row.name in values and (reason := misplaced(row, whole)) is not None:
                return row.name, reason
        return None

    def group(self, group: str) -> list[Parameter]:
        """The parameters of one group, in the engine's order."""
        return [parameter for (found, _), parameter in self.parameters.items() if found == group]


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between a catalogue and what an installed engine says."""

    group: str
    name: str
    what: Literal["only in the catalogue", "only in the engine", "differs"]
    catalogue: str = ""
    engine: str = ""


def load_catalogue(images: Path, backend: str) -> Catalogue | None:
    """The catalogue of `backend` in the folder `images`; None without one. Raises `ValueError` if unreadable."""
    path = images / backend / "params.json"
    if not path.is_file():
        return None
    try:
        return read_catalogue(path.read_text("utf-8"), backend)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the catalogue {path} cannot be read: {error!r}") from error


def read_catalogue(text: str, backend: str) -> Catalogue:
    """What `describe` printed. Raises `ValueError`, `KeyError` or `TypeError` where it is something else."""
    body = json.loads(text)
    rows = [Parameter.from_json(row) for row in body["parameters"]]
    loads = tuple(body.get("loads", ("offline",)))
    return Catalogue(
        backend, body["engine_version"], {(row.group, row.name): row for row in rows}, body.get("source", ""), loads
    )


def drift(catalogue: Catalogue, engine: Catalogue) -> list[Drift]:
    """Every parameter that the two do not describe alike, in the catalogue's order, the engine's own last."""
    found = []
    for (group, name), row in catalogue.parameters.items():
        other = engine.parameters.get((group, name))
        if other is None:
            found.append(Drift(group, name, "only in the catalogue"))
        elif row != other:
            changed = _changed(row.to_json(), other.to_json())
            found.append(Drift(group, name, "differs", _said(row, changed), _said(other, changed)))
    for group, name in engine.parameters:
        if (group, name) not in catalogue.parameters:
            found.append(Drift(group, name, "only in the engine"))
    return found


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]


def _said(row: Parameter, keys: Iterable[str]) -> str:
    body = row.to_json()
    return ", ".join(f"{key} {json.dumps(body.get(key), ensure_ascii=False)}" for key in keys)
