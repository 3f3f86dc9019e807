"""The keys that make an experiment, and the check of their values: each value once, wherever it is swept from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from lemctl.campaign.catalogue import Catalogue, load_catalogue
from lemctl.campaign.keys import listed, nearest
from lemctl.campaign.layers import Source
from lemctl.campaign.messages import section_at, sentence
from lemctl.campaign.references import dataset_reference, model_reference, trace_reference
from lemctl.campaign.schema import Campaign

SECTIONS = ("model", "engine", "sampling", "workload", "measure")
_GROUPS = ("engine", "sampling")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One key given one value. `scope` is the backend that it is for, None for every one; `shown` is as written."""

    key: str
    scope: str | None
    path: tuple[str, ...]
    value: Any
    shown: Any


class Surroundings:
    """What the host offers to a campaign file; each catalogue and data set is read once."""

    def __init__(
        self,
        dataset_dirs: Sequence[Path],
        model_dirs: Sequence[Path],
        catalogue_dir: Path | None,
        backends: Collection[str],
    ):
        self.dataset_dirs, self.model_dirs = dataset_dirs, model_dirs
        self.backends = backends
        self.known_sha256: dict[Path, str] = {}
        self._catalogue_dir = catalogue_dir
        self._catalogues: dict[str, Catalogue | None] = {}

    def catalogue(self, backend: str) -> Catalogue | None:
        """The catalogue of `backend`, read once; raises `ValueError` where it cannot be read."""
        if backend not in self._catalogues:
            folder = self._catalogue_dir
            self._catalogues[backend] = load_catalogue(folder, backend) if folder is not None else None
        return self._catalogues[backend]


class Checker:
    """Checks values of experiment keys against schema, catalogues and folders."""

    def __init__(self, surroundings: Surroundings, source: Source):
        self.surroundings, self.source = surroundings, source
        self.warnings: list[str] = []
        self._adapters: dict[str, TypeAdapter[Any]] = {}

    def assignments(self, key: str, values: Sequence[Any], places: Sequence[str]) -> list[Assignment]:
        """`key` with each of `values`; `places` says where each stands in the file, for the messages."""
        head, _, rest = key.partition(".")
        if head in self.surroundings.backends:
            return self._scoped(key, head, rest, values, places)
        if key == "backend":
            checked: list[Any] = [self.backend(value, place) for value, place in zip(values, places, strict=True)]
        else:
            checked = self._typed(key, values, places)
            checked = [self.resolved(key, value, place) for value, place in zip(checked, places, strict=True)]
        path = tuple(key.split("."))
        return [Assignment(key, None, path, new, _shown(new, old)) for new, old in zip(checked, values, strict=True)]

    def backend(self, value: Any, place: str) -> str:
        """A backend's name; raises with the nearest one."""
        known = self.surroundings.backends
        if not isinstance(value, str) or value not in known:
            near = nearest(value, known) if isinstance(value, str) else ""
            raise self.source.error(f"no backend {value!r} (known: {listed(known)}){near}", place)
        return value

    def resolved(self, key: str, value: Any, place: str) -> Any:
        """Models, data sets and traces as references; other values as they are."""
        try:
            if key == "model" and value is not None:
                return model_reference(value, self.surroundings.model_dirs)
            if key == "workload.dataset" and value is not None:
                return dataset_reference(value, self.surroundings.dataset_dirs, self.surroundings.known_sha256)
            if key == "workload.load.trace" and value is not None:
                return trace_reference(value, self.surroundings.dataset_dirs)
        except ValueError as error:
            raise self.source.error(str(error), place) from None
        return value

    def parameter(self, backend: str, group: str, name: str, value: Any, place: str) -> Any:
        """One scoped parameter, checked against the backend's catalogue and in its own type."""
        try:
            catalogue = self.surroundings.catalogue(backend)
        except ValueError as error:
            raise self.source.error(str(error), place) from None
        if catalogue is None:
            raise self.source.error(
                f"parameters of {backend} cannot be checked: it has no catalogue (images/{backend}/params.json)", place
            )
        if reason := catalogue.mistake(group, name, value):
            raise self.source.error(reason, place)
        if note := catalogue.unsettled(group, name):
            self._warn(f"{backend}.{group}.{name} {note}")
        return catalogue.normal(group, name, value)

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _scoped(
        self, key: str, backend: str, rest: str, values: Sequence[Any], places: Sequence[str]
    ) -> list[Assignment]:
        group, _, name = rest.partition(".")
        if group not in _GROUPS or not name or name.count(".") > 1:
            raise self.source.error(f"write {backend}.engine.NAME or {backend}.sampling.NAME", places[0])
        path = (group, *name.split("."))
        return [
            Assignment(key, backend, path, self.parameter(backend, group, name, value, place), value)
            for value, place in zip(values, places, strict=True)
        ]

    def _typed(self, key: str, values: Sequence[Any], places: Sequence[str]) -> list[Any]:
        adapter = self._adapters.get(key) or self._adapter(key, places[0])
        self._adapters[key] = adapter
        try:
            checked: list[Any] = adapter.validate_python(list(values), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            index = first["loc"][0] if first["loc"] else 0
            place = places[index] if isinstance(index, int) else places[0]
            raise self.source.error(sentence(first, Campaign), place) from None
        return checked

    def _adapter(self, key: str, place: str) -> TypeAdapter[Any]:
        *parents, name = key.split(".")
        section = section_at(Campaign, parents)
        field_info = section.model_fields.get(name) if section is not None else None
        if parents[:1] == ["engine"] and field_info is None:
            raise self.source.error("unknown key; parameters of one engine are scoped: BACKEND.engine.NAME", place)
        if field_info is None:
            names = experiment_keys()
            raise self.source.error(f"unknown key{nearest(key, names)}", place)
        if key.partition(".")[0] not in SECTIONS or section_at(Campaign, [*parents, name]) is not None:
            allowed = listed(experiment_keys(), 40)
            raise self.source.error(f"cannot differ between experiments; sweep one of: {allowed}", place)
        return TypeAdapter(list[Annotated[field_info.annotation, field_info]])  # type: ignore[name-defined]


def full_key(short: str, backends: Collection[str]) -> str:
    """The experiment key that `short` stands for: itself, or the one key that ends in it; raises `ValueError`."""
    keys = experiment_keys()
    if short in keys or short.partition(".")[0] in backends:
        return short
    found = [key for key in keys if key.endswith(f".{short}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{short} could be {listed(found)}")
    names = [*keys, *(key.rpartition(".")[2] for key in keys)]
    raise ValueError(f"no key {short!r} can differ between experiments{nearest(short, names)}")


def experiment_keys() -> list[str]:
    """Every unscoped key that may be swept, excluded or included."""
    keys = ["backend", "model"]
    pending = ["engine", "sampling", "workload", "measure"]
    while pending:
        prefix = pending.pop(0)
        section = section_at(Campaign, prefix.split("."))
        for name in section.model_fields if section is not None else ():
            key = f"{prefix}.{name}"
            if section_at(Campaign, key.split(".")) is None:
                keys.append(key)
            else:
                pending.append(key)
    return keys


def _shown(value: Any, written: Any) -> Any:
    """As written, but one name for what has several (`fp16` is `float16`)."""
    return value if isinstance(value, str) and isinstance(written, str) else written
