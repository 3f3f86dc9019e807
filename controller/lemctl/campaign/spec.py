"""The specification of an experiment: exactly what is hashed, section by section.

A section is built once for each distinct combination of the values in it, checked as a whole, and shared by all
experiments that have it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lem_runner import portable
from lemctl.campaign.catalogue import Catalogue
from lemctl.campaign.layers import Source
from lemctl.campaign.load import load_spec
from lemctl.campaign.messages import SectionError
from lemctl.campaign.prompt_choice import prompt_choice
from lemctl.campaign.values import Assignment
from lemctl.errors import CampaignFileError

SPEC_VERSION = 1

#: The same text as `lem_runner.protocol.canonical_json`, without building an encoder for each call.
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Section:
    """One section: in the file's words, as specified, and as canonical JSON."""

    values: Any
    spec: Any
    text: str


class SectionWriter:
    """Builds sections from the campaign's own values and an experiment's assignments."""

    def __init__(
        self,
        base: Mapping[str, Any],
        scoped: Mapping[str, Mapping[str, Mapping[str, Any]]],
        source: Source,
        catalogue: Callable[[str], Catalogue | None],
    ):
        self.base, self.scoped, self.source, self.catalogue = base, scoped, source, catalogue
        self._known: dict[tuple[str, str], Section] = {}

    def section(self, name: str, backend: str, assignments: Iterable[Assignment]) -> Section:
        """The section `name` for `backend`; raises `CampaignFileError` where its values do not go together."""
        values = self.base.get(name)
        if name in ("engine", "sampling"):
            values = {**(values or {}), **self.scoped.get(backend, {}).get(name, {})}
        # A scoped value is the more particular one, so it is written last.
        for assignment in sorted(assignments, key=lambda item: item.scope is not None):
            values = _assigned(values, assignment.path[1:], assignment.value)
        try:
            spec = _BUILDERS[name](values)
            if name in ("engine", "sampling"):
                self._check_for(backend, name, spec)
        except SectionError as error:
            raise self.located(error) from None
        text = canonical(spec)
        # Equal sections are one object, so that identity tells whether two experiments share an engine.
        return self._known.setdefault((name, text), Section(values, spec, text))

    def located(self, error: SectionError, backend: str | None = None) -> CampaignFileError:
        """The mistake with its place: where the key is swept, there. With `backend`, first where it is scoped to it."""
        keys = [error.key] if backend is None else [f"{backend}.{error.key}", error.key]
        lines, origins = self.source.lines, self.source.origins
        for key in keys:
            if f"sweep.{key}" in lines:
                return self.source.error(str(error), f"sweep.{key}")
            if key in lines or key in origins:
                return self.source.error(str(error), key)
        return self.source.error(str(error), error.key)

    def _check_for(self, backend: str, part: Any, spec: Mapping[str, Any]) -> None:
        """Refuse what this engine lacks, or lacks beside the other values."""
        if (gap := portable.lacking(backend, part, spec)) is not None:
            name, reason = gap
            raise SectionError(f"{part}.{name}", f"{backend} cannot do this: {reason}")
        catalogue = self.catalogue(backend)
        wrong = catalogue and catalogue.misplaced(part, portable.translated(backend, part, spec))
        if wrong:
            raise SectionError(f"{backend}.{part}.{wrong[0]}", wrong[1])


def experiment_hash(backend: str, parts: Mapping[str, Section]) -> str:
    """First 16 hex digits of the sha256 of the canonical JSON of the specification."""
    text = (
        f'{{"backend":"{backend}","engine":{parts["engine"].text},"measure":{parts["measure"].text},'
        f'"model":{parts["model"].text},"sampling":{parts["sampling"].text},"spec_version":{SPEC_VERSION},'
        f'"workload":{parts["workload"].text}}}'
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def assembled(backend: str, parts: Mapping[str, Section]) -> dict[str, Any]:
    """The specification; its sections are shared with other experiments and must not be written to."""
    return {
        "spec_version": SPEC_VERSION,
        "backend": backend,
        "model": parts["model"].spec,
        "engine": parts["engine"].spec,
        "sampling": parts["sampling"].spec,
        "workload": parts["workload"].spec,
        "measure": parts["measure"].spec,
    }


def _assigned(values: Any, path: tuple[str, ...], value: Any) -> Any:
    """`values` with `value` at `path`: new mappings along the path, the rest shared."""
    if not path:
        return value
    inner = values or {}
    return {**inner, path[0]: _assigned(inner.get(path[0]), path[1:], value)}


def _model(values: Any) -> Any:
    if values is None:
        raise SectionError("model", "this key is required, here or in sweep")
    return values


def _engine(values: dict[str, Any]) -> dict[str, Any]:
    # What says nothing is left out, so that an experiment keeps its name when a portable parameter is added.
    unsaid = {row.name: row.default for row in portable.TABLE if row.part == "engine"}
    return {name: value for name, value in values.items() if name not in unsaid or value != unsaid[name]}


def _sampling(values: dict[str, Any]) -> dict[str, Any]:
    spec = {name: value for name, value in values.items() if value is not None}
    if not spec.get("do_sample"):
        for name in ("temperature", "top_p", "top_k", "min_p"):
            if name in spec:
                raise SectionError(f"sampling.{name}", "has no effect without sampling.do_sample: true")
    return spec


def _workload(values: dict[str, Any]) -> dict[str, Any]:
    choice = prompt_choice(values)
    declared = values["prefix_cache_hits"]
    return {
        **choice,
        "prompts": values["prompts"],
        "seed": values["seed"],
        "template": values["template"],
        "max_new_tokens": values["max_new_tokens"],
        "output": values["output"],
        "load": load_spec(values["load"], values["prompts"]),
        # Only where something is declared, so that the hash of an experiment that declares nothing stays what it was.
        **({} if declared is None else {"prefix_cache_hits": declared}),
    }


def _measure(values: dict[str, Any]) -> dict[str, Any]:
    warmup = values["warmup"]
    steady = warmup["kind"] == "steady"
    if steady and warmup["min"] > warmup["max"]:
        raise SectionError("measure.warmup.min", "the least warm-up is longer than the longest")
    return {
        "window_s": values["window"],
        "one_pass": values["window"] is None,
        # Only a steady warm-up has a least duration; written as 0 elsewhere, it cannot tell two experiments apart.
        "warmup": {"kind": warmup["kind"], "min_s": warmup["min"] if steady else 0.0, "max_s": warmup["max"]},
        "baseline_s": values["baseline"],
    }


_BUILDERS = {
    "model": _model,
    "engine": _engine,
    "sampling": _sampling,
    "workload": _workload,
    "measure": _measure,
}
