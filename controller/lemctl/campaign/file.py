"""Reading a campaign file: parse, lay over preset and defaults, validate once. The way in to this package.

What comes out is checked key by key and value by value; `plan.plan` expands it, and checks what goes together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lemctl.campaign.catalogue import Catalogue
from lemctl.campaign.keys import get, has, listed, nearest
from lemctl.campaign.layers import Source, file_layer, merged, override_layer
from lemctl.campaign.load import meaningless_keys, targets_s
from lemctl.campaign.messages import translated
from lemctl.campaign.presets import PRESETS
from lemctl.campaign.schema import BACKENDS, Campaign, Scoped
from lemctl.campaign.sweep import Inclusion, Sweep, read_sweep, without
from lemctl.campaign.values import Checker, Surroundings
from lemctl.campaign.yaml import MAX_BYTES, Document, parse
from lemctl.errors import CampaignFileError

__all__ = ["BACKENDS", "CampaignFile", "load", "loads"]

MAX_RUNS = 200_000


@dataclass(frozen=True, slots=True)
class CampaignFile:
    """A validated campaign.

    `base` holds the experiment's own values by section (`model`, `backend`, `workload`, `engine`, `sampling`,
    `measure`) with models and data sets as references; `scoped` those of single backends; `sweep` what varies.
    """

    settings: Campaign
    base: Mapping[str, Any]
    scoped: Mapping[str, Mapping[str, Mapping[str, Any]]]
    sweep: Sweep
    raw: Mapping[str, Any]
    source: Source
    warnings: tuple[str, ...]
    max_runs: int
    catalogue: Callable[[str], Catalogue | None]

    @property
    def name(self) -> str:
        """The campaign's name."""
        return self.settings.name

    def origin(self, key: str) -> str:
        """Where the value of a dotted key came from: `command line`, `file`, `preset NAME` or `default`."""
        return self.source.origin(key)


def load(
    path: Path,
    overrides: Mapping[str, str] | None = None,
    preset: str | None = None,
    *,
    dataset_dirs: Sequence[Path] = (),
    model_dirs: Sequence[Path] = (),
    catalogue_dir: Path | None = None,
    backends: Collection[str] = BACKENDS,
    max_runs: int = MAX_RUNS,
) -> CampaignFile:
    """The campaign in the file `path`; raises `CampaignFileError`. `overrides`: dotted keys with YAML texts.

    `dataset_dirs` and `model_dirs` are where `file:` and `path:` names are looked up, `catalogue_dir` is the folder
    with `BACKEND/params.json`; a file that expands to more than `max_runs` runs is refused by `plan`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CampaignFileError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except ValueError:
        raise CampaignFileError("is no path", file=str(path)) from None
    if len(data) > MAX_BYTES:
        raise CampaignFileError(f"larger than {MAX_BYTES:,} bytes", file=str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CampaignFileError("not valid UTF-8 text", file=str(path), line=line) from None
    return loads(
        text,
        str(path),
        overrides,
        preset,
        dataset_dirs=dataset_dirs,
        model_dirs=model_dirs,
        catalogue_dir=catalogue_dir,
        backends=backends,
        max_runs=max_runs,
    )


def loads(
    text: str,
    name: str = "<string>",
    overrides: Mapping[str, str] | None = None,
    preset: str | None = None,
    *,
    dataset_dirs: Sequence[Path] = (),
    model_dirs: Sequence[Path] = (),
    catalogue_dir: Path | None = None,
    backends: Collection[str] = BACKENDS,
    max_runs: int = MAX_RUNS,
) -> CampaignFile:
    """As `load`, of a text; `name` stands in the messages."""
    tree, source, pinned = _layered(parse(text, name), name, overrides or {}, preset)
    surroundings = Surroundings(dataset_dirs, model_dirs, catalogue_dir, backends)
    check = Checker(surroundings, source)
    raw_scoped = {backend: tree.pop(backend) for backend in list(tree) if backend in backends}
    settings = _validated(tree, source, backends)
    scoped = {backend: _scoped(backend, value, source, check) for backend, value in raw_scoped.items()}
    base = settings.model_dump(include={"workload", "engine", "sampling", "measure"})
    base["model"] = check.resolved("model", settings.model, "model")
    base["backend"] = check.backend(settings.backend, "backend") if settings.backend is not None else None
    base["workload"]["dataset"] = check.resolved("workload.dataset", settings.workload.dataset, "workload.dataset")
    load = base["workload"]["load"]
    load["trace"] = check.resolved("workload.load.trace", load["trace"], "workload.load.trace")
    swept = without(settings.sweep, pinned) if pinned else settings.sweep
    read = read_sweep(swept, settings.exclude, settings.include, check)
    sweep = replace(read, includes=tuple(entry for entry in read.includes if not _contradicts(entry, tree, pinned)))
    warnings = [f"{key} is given on the command line: not swept" for key in pinned if _sweeps(settings.sweep, key)]
    if dropped := len(read.includes) - len(sweep.includes):
        warnings.append(f"{dropped} of include is left out: the command line says otherwise")
    unused = _unused_scopes(base["backend"], scoped, sweep)
    if unused and "backend" not in pinned:
        backend, key = unused[0]
        raise source.error(f"no experiment of this campaign uses the backend {backend}", key)
    warnings += [f"{key} is left out: no experiment uses the backend {backend}" for backend, key in unused]
    warnings += check.warnings
    _check_gate(settings, source)
    _check_load(settings, sweep, source)
    _check_zones(settings, source)
    if settings.targets is not None and not targets_s(settings.targets.model_dump()):
        raise source.error("names no latency: give one or more of ttft, tpot, e2e", "targets")
    raw = {**tree, **raw_scoped, "sweep": swept}
    return CampaignFile(settings, base, scoped, sweep, raw, source, tuple(warnings), max_runs, surroundings.catalogue)


def _layered(
    document: Document, name: str, overrides: Mapping[str, str], preset: str | None
) -> tuple[dict[str, Any], Source, tuple[str, ...]]:
    """The merged tree, its source, and the dotted keys that the command line gives one value."""
    own = file_layer(document, name)
    typed = override_layer({**overrides, **({"preset": preset} if preset is not None else {})})
    chosen = typed.get("preset", own.get("preset"))
    layers: list[tuple[str, Mapping[str, Any]]] = [("file", own), ("command line", typed)]
    if isinstance(chosen, str):
        if chosen not in PRESETS:
            source = Source(name, document.lines, {"preset": "command line" if "preset" in typed else "file"})
            raise source.error(f"no preset {chosen!r} (known: {listed(PRESETS)}){nearest(chosen, PRESETS)}", "preset")
        layers.insert(0, (f"preset {chosen}", PRESETS[chosen]))
    tree, origins = merged(layers)
    pinned = tuple(key for key in overrides if not key.startswith("sweep"))
    return tree, Source(name, document.lines, origins), pinned


def _validated(tree: Mapping[str, Any], source: Source, backends: Collection[str]) -> Campaign:
    for key in tree:
        if key not in Campaign.model_fields:
            known = [*Campaign.model_fields, *backends]
            raise source.error(f"unknown key{nearest(key, known)} (allowed: {listed(known, 40)})", key)
    try:
        return Campaign.model_validate(tree)
    except ValidationError as error:
        raise translated(error, Campaign, source, lambda key: has(tree, key) or key in source.lines) from None


def _scoped(backend: str, value: Any, source: Source, check: Checker) -> dict[str, dict[str, Any]]:
    try:
        section = Scoped.model_validate(value)
    except ValidationError as error:
        exists = source.lines.__contains__
        raise translated(error, Scoped, source, exists, f"{backend}.") from None
    return {
        group: {
            name: check.parameter(backend, group, name, given, f"{backend}.{group}.{name}")
            for name, given in parameters.items()
        }
        for group, parameters in (("engine", section.engine), ("sampling", section.sampling))
    }


def _sweeps(sweep: Mapping[str, Any], key: str) -> bool:
    return without(sweep, [key]) != sweep


def _contradicts(include: Inclusion, tree: Mapping[str, Any], pinned: Collection[str]) -> bool:
    return any(part.key in pinned and part.shown != get(tree, part.key) for part in include.assignments)


def _unused_scopes(backend: str | None, scoped: Mapping[str, Any], sweep: Sweep) -> list[tuple[str, str]]:
    """Backends that values are scoped to and that no experiment can have, with the key that scopes."""
    used = {backend} if backend is not None else set()
    wanted = {name: name for name in scoped}
    for place, assignment in sweep.assignments():
        if assignment.key == "backend":
            used.add(assignment.value)
        elif assignment.scope is not None:
            wanted.setdefault(assignment.scope, f"{place}.{assignment.key}")
    return [(name, key) for name, key in wanted.items() if name not in used]


def _check_gate(settings: Campaign, source: Source) -> None:
    """A limit that the chosen gate does not have is refused where a person wrote it."""
    kind = settings.gate.kind
    for key, meaningless in (("gate.max", kind != "cool"), ("gate.gap", kind == "steady")):
        written = source.origin(key) in ("file", "command line")
        if meaningless and written:
            raise source.error(f"has no effect with gate kind {kind!r}", key)


def _check_load(settings: Campaign, sweep: Sweep, source: Source) -> None:
    """A key of another kind of load is refused where a person wrote it, or swept it."""
    swept = {part.key: place for place, part in sweep.assignments()}
    modes = {part.value for _, part in sweep.assignments() if part.key == "workload.load.mode"}
    modes.add(settings.workload.load.mode)
    for name in meaningless_keys(modes):
        key = f"workload.load.{name}"
        if source.origins.get(key) in ("file", "command line") or key in swept:
            place = f"{swept[key]}.{key}" if key in swept else key
            raise source.error(f"has no effect with `mode: {' or '.join(sorted(modes))}`", place)


def _check_zones(settings: Campaign, source: Source) -> None:
    """Windows of one list go by the clocks of one zone, which is also that of `schedule` and of times typed."""
    windows = settings.hours if isinstance(settings.hours, list) else []
    for index, window in enumerate(windows):
        if window.tz != windows[0].tz:
            zones = " and ".join("the host's zone" if tz is None else tz for tz in (windows[0].tz, window.tz))
            raise source.error(
                f"windows of one list share one zone, found {zones}: write the same `tz` in each window, or in none",
                f"hours.{index}.tz",
            )


def explained(campaign: CampaignFile) -> list[tuple[str, Any, str]]:
    """Every key that has a value: the value as written, and its origin."""
    rows: list[tuple[str, Any, str]] = []

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict) and value and key not in ("model", "sweep"):
            for name, item in value.items():
                walk(item, f"{key}.{name}" if key else name)
        elif has(campaign.raw, key):
            rows.append((key, get(campaign.raw, key), campaign.origin(key)))
        elif value not in (None, {}, [], ""):
            # A default; the numbers with a fraction among them are durations.
            rows.append((key, f"{value:g}s" if isinstance(value, float) else value, campaign.origin(key)))

    walk({**campaign.settings.model_dump(by_alias=True), **campaign.scoped}, "")
    return [row for row in rows if row[1] not in ({}, [])]
