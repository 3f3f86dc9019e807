"""A validated campaign -> experiments and the ordered queue of runs. Pure and deterministic."""

from __future__ import annotations

import gc
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lem_runner import portable
from lemctl.campaign.combinations import Restriction, check_combination, restrictions
from lemctl.campaign.file import CampaignFile
from lemctl.campaign.load import OPEN_MODES, check_load, in_flight, is_one_by_one, targets_s
from lemctl.campaign.messages import SectionError
from lemctl.campaign.order import ordered
from lemctl.campaign.references import model_name
from lemctl.campaign.spec import Section, SectionWriter, assembled, canonical, experiment_hash
from lemctl.campaign.steering import HoursWindow
from lemctl.campaign.sweep import Axis, Inclusion, Match
from lemctl.campaign.values import SECTIONS

Engine = tuple[str, str, str]

_LATER = {
    "engine": ("max_model_len", "tensor_parallel", "pipeline_parallel", "data_parallel", "prefix_caching"),
    "sampling": ("min_p", "repetition_penalty"),
    "workload": ("prefix_cache_hits", "select", "lengths"),
}


@dataclass(frozen=True, slots=True)
class Experiment:
    """One full configuration. `spec` is what is hashed, its parts shared with others: read it only. `axes` are the
    swept keys with this experiment's values, as written."""

    hash: str
    backend: str
    model: str
    spec: dict[str, Any]
    axes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """`experiment` is an index into the plan's experiments, `cycle` counts from 1, `position` from 0 in the queue."""

    experiment: int
    cycle: int
    position: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a campaign will do. `hash` names the plan whatever its description says."""

    name: str
    document: dict[str, Any]
    experiments: tuple[Experiment, ...]
    runs: tuple[PlannedRun, ...]
    hash: str
    warnings: tuple[str, ...] = ()


class _Collector:
    """Experiments by hash, in the order they were found."""

    def __init__(self, campaign: CampaignFile):
        self.campaign = campaign
        self.writer = SectionWriter(campaign.base, campaign.scoped, campaign.source, campaign.catalogue)
        self.found: dict[str, Experiment] = {}
        self.engines: list[Engine] = []
        self.models: dict[str, str] = {}
        self.hits = [0] * len(campaign.sweep.excludes)
        self.checked: set[tuple[str, int, int]] = set()
        self.under: dict[tuple[str, int, int], tuple[Restriction, ...]] = {}
        self.duplicates = 0

    def add(self, backend: str, parts: Mapping[str, Section], axes: dict[str, Any]) -> None:
        digest = experiment_hash(backend, parts)
        if digest in self.found:
            self.duplicates += 1
            return
        self._check_load(backend, parts["workload"], parts["measure"])
        self._check_combination(backend, parts["engine"], parts["sampling"], parts["workload"])
        model = parts["model"]
        if model.text not in self.models:
            self.models[model.text] = model_name(model.spec)
        self.found[digest] = Experiment(digest, backend, self.models[model.text], assembled(backend, parts), axes)
        self.engines.append((backend, model.text, parts["engine"].text))

    def _check_load(self, backend: str, workload: Section, measure: Section) -> None:
        """Once for each combination: sections are shared, so that identity is enough."""
        key = (backend, id(workload), id(measure))
        if key in self.checked:
            return
        self.checked.add(key)
        try:
            catalogue = self.campaign.catalogue(backend)
            check_load(backend, None if catalogue is None else catalogue.loads, workload.spec, measure.spec)
        except SectionError as error:
            raise self.writer.located(error) from None

    def _check_combination(self, backend: str, engine: Section, sampling: Section, workload: Section) -> None:
        """What the engine's parameters rule out is found once for each engine; most rule out nothing."""
        key = (backend, id(engine), id(sampling))
        under = self.under.get(key)
        if under is None:
            under = self.under[key] = restrictions(backend, engine.spec, sampling.spec)
        if not under:
            return
        try:
            check_combination(backend, under, workload.spec)
        except SectionError as error:
            raise self.writer.located(error, backend) from None

    def excluded(self, backend: str, parts: Mapping[str, Section]) -> bool:
        out = False
        for index, match in enumerate(self.campaign.sweep.excludes):
            if _matches(match, backend, parts):
                self.hits[index] += 1
                out = True
        return out


def plan(campaign: CampaignFile) -> Plan:
    """Expand, check what goes together, merge duplicates, order. Raises `CampaignFileError`."""
    cycles = _most_cycles(campaign)
    _refuse_too_many(campaign, cycles)
    collector = _Collector(campaign)
    with _no_garbage():
        for grid in campaign.sweep.grids:
            for backend, axes in _by_backend(campaign, grid):
                _expand(collector, backend, axes)
        for include in campaign.sweep.includes:
            _include(collector, include)
        if not collector.found:
            raise campaign.source.error("no experiment is left after exclude", "exclude")
        settings = campaign.settings
        queue = ordered(settings.order, collector.engines, cycles, settings.seed, settings.reload_each_block)
        runs = tuple(PlannedRun(experiment, cycle, position) for position, (experiment, cycle) in enumerate(queue))
    experiments = tuple(collector.found.values())
    _check_targets(campaign, experiments)
    document = _document(campaign)
    if limits := _largest_batches(experiments):
        document["largest_batch"] = limits
    identity = {"document": _done(document), "experiments": list(collector.found)}
    digest = hashlib.sha256(canonical(identity).encode()).hexdigest()[:16]
    return Plan(campaign.name, document, experiments, runs, digest, _warnings(campaign, collector))


def _check_targets(campaign: CampaignFile, experiments: Sequence[Experiment]) -> None:
    if campaign.settings.targets is None:
        return
    if not any(is_one_by_one(each.spec["workload"]["load"]) for each in experiments):
        raise campaign.source.error(
            "has no effect: no load here hands requests over one by one (workload.load.mode: closed, poisson, gamma or "
            "trace, or batching: continuous)",
            "targets",
        )


def _largest_batches(experiments: Sequence[Experiment]) -> dict[str, int]:
    """The most requests in flight that this campaign asks of each engine that has a limit of its own. Open loops ask
    for no number: an engine that serves one keeps its own limit."""
    found: dict[str, int] = {}
    open_loops = {each.backend for each in experiments if each.spec["workload"]["load"]["mode"] in OPEN_MODES}
    asked = [(each.backend, in_flight(each.spec["workload"])) for each in experiments if each.backend not in open_loops]
    for backend, batch in dict.fromkeys(asked):
        if portable.limits(backend, batch):
            found[backend] = max(batch, found.get(backend, 0))
    return found


def _done(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a campaign does, without when it may, whom it tells and what a failure does to it; limits that came with a
    later version are left out, so that an unfinished campaign of before is still this one."""
    steering = ("hours", "schedule", "notify", "on_failure")
    breaker = {key: value for key, value in document["breaker"].items() if key != "probe_s"}
    later = ("hello_s", "warmup_s", "window_s", "writing_s", "total_s", "memory_s")
    timeouts = {key: value for key, value in document["timeouts"].items() if key not in later}
    kept = {key: value for key, value in document.items() if key not in steering}
    return {**kept, "breaker": breaker, "timeouts": timeouts, "description": ""}


def engine_of(experiment: Experiment) -> tuple[str, int, int]:
    """Equal for two experiments of one plan exactly where they can share a loaded engine."""
    return experiment.backend, id(experiment.spec["model"]), id(experiment.spec["engine"])


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Without the cycle collector: an expansion makes many objects that all live on, and no cycles. At 10,000
    experiments its passes over them are a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _most_cycles(campaign: CampaignFile) -> int:
    """Cycles to queue: with `until` the most there may be; those not needed are skipped when that is known."""
    cycles = campaign.settings.cycles
    if isinstance(cycles, int):
        return cycles
    if cycles.min > cycles.max:
        raise campaign.source.error(f"min {cycles.min} is above max {cycles.max}", "cycles")
    if campaign.settings.order == "shuffled":
        raise campaign.source.error(
            "precision is looked at when a block ends, and `order: shuffled` has none", "cycles"
        )
    return cycles.max


def _refuse_too_many(campaign: CampaignFile, cycles: int) -> None:
    count = len(campaign.sweep.includes)
    for grid in campaign.sweep.grids:
        for _, axes in _by_backend(campaign, grid):
            cells = 1
            for axis in axes:
                cells *= len(axis.alternatives)
            count += cells
    if count * cycles > campaign.max_runs:
        raise campaign.source.error(
            f"{count:,} experiments x {cycles:,} cycles are more than {campaign.max_runs:,} runs", "sweep"
        )


def _by_backend(campaign: CampaignFile, grid: Sequence[Axis]) -> Iterator[tuple[str, list[Axis]]]:
    """The grid for each backend: the axis that sets the backend held at one value, scoped axes of others left out."""
    chooser = next((axis for axis in grid if "backend" in axis.keys), None)
    if chooser is None:
        backend = campaign.base["backend"]
        if backend is None:
            # Included experiments may name their own; a campaign of nothing else sweeps nothing.
            if campaign.sweep.includes and not grid:
                return
            raise campaign.source.error("this key is required, here or in sweep", "backend")
        yield backend, [own for axis in grid if (own := axis.only(backend)) is not None]
        return
    for alternative in chooser.alternatives:
        backend = next(part.value for part in alternative if part.key == "backend")
        axes = [Axis(chooser.keys, (alternative,)) if axis is chooser else axis for axis in grid]
        yield backend, [own for axis in axes if (own := axis.only(backend)) is not None]


def _expand(collector: _Collector, backend: str, axes: Sequence[Axis]) -> None:
    """Every cell of a grid. A section is built once for each choice on the axes that touch it."""
    writer = collector.writer
    touching = {
        name: [n for n, axis in enumerate(axes) if any(part.path[0] == name for part in axis.alternatives[0])]
        for name in SECTIONS
    }
    constant = {name: writer.section(name, backend, ()) for name, touched in touching.items() if not touched}
    varying: list[tuple[str, list[int], dict[tuple[int, ...], Section]]] = [
        (name, touched, {}) for name, touched in touching.items() if touched
    ]
    shown = [[{part.key: part.shown for part in choice} for choice in axis.alternatives] for axis in axes]
    for cell in itertools.product(*(range(len(axis.alternatives)) for axis in axes)):
        parts = constant.copy()
        for name, touched, kept in varying:
            choices = tuple([cell[n] for n in touched])
            section = kept.get(choices)
            if section is None:
                assignments = [part for n in touched for part in axes[n].alternatives[cell[n]] if part.path[0] == name]
                section = kept[choices] = writer.section(name, backend, assignments)
            parts[name] = section
        if not collector.excluded(backend, parts):
            labels: dict[str, Any] = {}
            for n, choice in enumerate(cell):
                labels.update(shown[n][choice])
            collector.add(backend, parts, labels)


def _include(collector: _Collector, include: Inclusion) -> None:
    source = collector.campaign.source
    chosen = [part.value for part in include.assignments if part.key == "backend"]
    backend = chosen[0] if chosen else collector.campaign.base["backend"]
    if backend is None:
        raise source.error("needs a backend, because the campaign sweeps it", include.place)
    for part in include.assignments:
        if part.scope not in (None, backend):
            raise source.error(f"is scoped to {part.scope}, the experiment's backend is {backend}", include.place)
    parts = {
        name: collector.writer.section(name, backend, [part for part in include.assignments if part.path[0] == name])
        for name in SECTIONS
    }
    collector.add(backend, parts, {part.key: part.shown for part in include.assignments})


def _matches(match: Match, backend: str, parts: Mapping[str, Section]) -> bool:
    for scope, path, allowed in match.conditions:
        if scope is not None and scope != backend:
            return False
        value: Any = backend if path == ("backend",) else parts[path[0]].values
        for name in path[1:]:
            value = value.get(name) if isinstance(value, dict) else None
        if value not in allowed:
            return False
    return True


def _warnings(campaign: CampaignFile, collector: _Collector) -> tuple[str, ...]:
    warnings = list(campaign.warnings)
    if collector.duplicates:
        warnings.append(f"{collector.duplicates} duplicate experiments were merged")
    for match, hits in zip(campaign.sweep.excludes, collector.hits, strict=True):
        if not hits:
            warnings.append(f"{match.place} excludes nothing")
    return tuple(warnings)


def _said(base: Mapping[str, Any]) -> dict[str, Any]:
    """The base without portable parameters that say nothing and that earlier versions did not know: the plan of a
    campaign keeps its hash, so that a newer lemctl goes on with it."""
    said = dict(base)
    for section, names in _LATER.items():
        said[section] = {name: value for name, value in base[section].items() if name not in names or value}
    return said


def _hours(hours: HoursWindow | list[HoursWindow] | None) -> dict[str, Any] | list[dict[str, Any]] | None:
    """As written: a mapping, or a list of them."""
    if isinstance(hours, list):
        return [window.model_dump(by_alias=True) for window in hours]
    return None if hours is None else hours.model_dump(by_alias=True)


def _document(campaign: CampaignFile) -> dict[str, Any]:
    """The normalised campaign, JSON-able; durations end in `_s`."""
    settings = campaign.settings
    gate, timeouts = settings.gate, settings.timeouts
    return {
        "name": settings.name,
        "description": settings.description,
        "preset": settings.preset,
        "cycles": settings.cycles if isinstance(settings.cycles, int) else settings.cycles.model_dump(),
        "order": settings.order,
        "seed": settings.seed,
        "reload_each_block": settings.reload_each_block,
        "isolation": settings.isolation,
        "gate": {"kind": gate.kind, "max_s": gate.max, "gap_s": gate.gap},
        "retry": {"max": settings.retry.max},
        "timeouts": {
            "start_s": timeouts.start,
            "silence_s": timeouts.silence,
            "progress_s": timeouts.progress,
            "run_s": timeouts.run,
            "hello_s": timeouts.hello,
            "warmup_s": timeouts.warmup,
            "window_s": timeouts.window,
            "writing_s": timeouts.writing,
            "memory_s": timeouts.memory,
            "total_s": timeouts.total,
        },
        "breaker": {"consecutive": settings.breaker.consecutive, "probe_s": settings.breaker.probe},
        "on_failure": settings.on_failure,
        "hours": _hours(settings.hours),
        "schedule": settings.schedule,
        "gpus": list(settings.gpus) if settings.gpus is not None else None,
        "base": {**_said(campaign.base), "scoped": {name: dict(groups) for name, groups in campaign.scoped.items()}},
        "sweep": campaign.raw["sweep"],
        "exclude": settings.exclude,
        "include": settings.include,
        **({"targets_s": targets_s(settings.targets.model_dump())} if settings.targets is not None else {}),
        **({"notify": settings.notify.model_dump()} if settings.notify is not None else {}),
    }
