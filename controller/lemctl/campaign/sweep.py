"""The sweep: which combinations of values are run.

    sweep:
      backend: [pytorch, vllm]                       an axis: every value with every value of the other axes
      vllm.engine.gpu_memory_utilization: [0.8, 0.9] a scoped axis: multiplies that backend's cells only
      zip:                                           keys that advance together: one axis of two values
        - {workload.max_new_tokens: [32, 64], workload.prompts: [100, 50]}
      groups:                                        alternatives: the grid above with the first, and with the second
        - {engine.dtype: [float16, bfloat16]}
        - {engine.dtype: [float32], workload.load.batch_size: [1]}

`exclude` leaves out every cell that has all of an entry's values (a list means any of them); `include` adds one
experiment for each entry, from the file's own values and the entry's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lemctl.campaign.layers import Source
from lemctl.campaign.values import Assignment, Checker


@dataclass(frozen=True, slots=True)
class Axis:
    """Alternatives that exclude one another; each sets the same keys."""

    keys: tuple[str, ...]
    alternatives: tuple[tuple[Assignment, ...], ...]

    def only(self, backend: str) -> Axis | None:
        """The part that concerns `backend`; None where it concerns others only."""
        mine = [n for n, part in enumerate(self.alternatives[0]) if part.scope in (None, backend)]
        if len(mine) == len(self.keys):
            return self
        if not mine:
            return None
        return Axis(
            tuple(self.keys[n] for n in mine),
            tuple(tuple(alternative[n] for n in mine) for alternative in self.alternatives),
        )


@dataclass(frozen=True, slots=True)
class Match:
    """An exclusion: for each key, its scope, its path and the values that match."""

    place: str
    conditions: tuple[tuple[str | None, tuple[str, ...], tuple[Any, ...]], ...]


@dataclass(frozen=True, slots=True)
class Inclusion:
    """An experiment beside the grids, by what it changes of the file's own values."""

    place: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A union of grids, less the exclusions, plus the inclusions."""

    grids: tuple[tuple[Axis, ...], ...]
    excludes: tuple[Match, ...]
    includes: tuple[Inclusion, ...]

    def assignments(self) -> Iterator[tuple[str, Assignment]]:
        """Everything that is set anywhere in the grids and inclusions, with the place that sets it."""
        for grid in self.grids:
            for axis in grid:
                for alternative in axis.alternatives:
                    yield from (("sweep", assignment) for assignment in alternative)
        for include in self.includes:
            yield from ((include.place, assignment) for assignment in include.assignments)


def read_sweep(
    sweep: Mapping[str, Any], exclude: Sequence[Mapping[str, Any]], include: Sequence[Mapping[str, Any]], check: Checker
) -> Sweep:
    """The three keys as checked values; raises `CampaignFileError`."""
    outer = _axes(sweep, "sweep", check)
    grids = [outer]
    if "groups" in sweep:
        groups = _list(sweep["groups"], "sweep.groups", "grids", check.source)
        grids = []
        for index, group in enumerate(groups):
            place = f"sweep.groups.{index}"
            if not isinstance(group, Mapping):
                raise check.source.error("must be a mapping of keys to lists of values", place)
            if "groups" in group:
                raise check.source.error("groups cannot be nested", f"{place}.groups")
            grids.append(outer + _axes(group, place, check))
    for grid in grids:
        _refuse_twice(grid, check.source)
    excludes = [_match(entry, f"exclude.{index}", check) for index, entry in enumerate(exclude)]
    includes = [_inclusion(entry, f"include.{index}", check) for index, entry in enumerate(include)]
    return Sweep(tuple(grids), tuple(excludes), tuple(includes))


def without(sweep: Mapping[str, Any], pinned: Collection[str]) -> dict[str, Any]:
    """The sweep without the axes of the keys that the command line gives one value."""
    kept = {key: value for key, value in sweep.items() if key not in pinned}
    zips = kept.get("zip")
    if isinstance(zips, Mapping):
        kept["zip"] = zips = [zips]
    if isinstance(zips, list):
        left = [without(item, pinned) if isinstance(item, Mapping) else item for item in zips]
        kept["zip"] = [now for now, before in zip(left, zips, strict=True) if now or not before]
        if zips and not kept["zip"]:
            del kept["zip"]
    if isinstance(groups := kept.get("groups"), list):
        kept["groups"] = [without(item, pinned) if isinstance(item, Mapping) else item for item in groups]
    return kept


def _axes(sweep: Mapping[str, Any], place: str, check: Checker) -> tuple[Axis, ...]:
    axes = []
    for key, values in sweep.items():
        here = f"{place}.{key}"
        if key == "zip":
            entries = [values] if isinstance(values, Mapping) else _list(values, here, "mappings", check.source)
            for index, entry in enumerate(entries):
                axes.append(_zip(entry, here if isinstance(values, Mapping) else f"{here}.{index}", check))
        elif key != "groups":
            column = _column(key, values, here, check)
            axes.append(Axis((key,), tuple((assignment,) for assignment in column)))
    return tuple(axes)


def _zip(entry: Any, place: str, check: Checker) -> Axis:
    if not isinstance(entry, Mapping) or not entry:
        raise check.source.error("must be a mapping of keys to lists of equal length", place)
    columns = {key: _column(key, values, f"{place}.{key}", check) for key, values in entry.items()}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise check.source.error(f"zipped lists must be of equal length: {shown}", place)
    return Axis(tuple(columns), tuple(zip(*columns.values(), strict=True)))


def _column(key: str, values: Any, place: str, check: Checker) -> list[Assignment]:
    values = _list(values, place, "values", check.source)
    return check.assignments(key, values, [f"{place}.{index}" for index in range(len(values))])


def _list(value: Any, place: str, what: str, source: Source) -> list[Any]:
    if not isinstance(value, list):
        raise source.error(f"must be a list of {what}", place)
    if not value:
        raise source.error(f"an empty list of {what}: there would be no experiment", place)
    return value


def _refuse_twice(grid: Sequence[Axis], source: Source) -> None:
    seen: set[str] = set()
    for axis in grid:
        for key in axis.keys:
            if key in seen:
                raise source.error(f"{key} is swept twice in one grid", "sweep")
            seen.add(key)


def _match(entry: Mapping[str, Any], place: str, check: Checker) -> Match:
    if not entry:
        raise check.source.error("an empty entry would exclude everything", place)
    conditions = []
    for key, value in entry.items():
        here = f"{place}.{key}"
        values = value if isinstance(value, list) and value else [value]
        found = check.assignments(key, values, [here] * len(values))
        conditions.append((found[0].scope, found[0].path, tuple(assignment.value for assignment in found)))
    return Match(place, tuple(conditions))


def _inclusion(entry: Mapping[str, Any], place: str, check: Checker) -> Inclusion:
    if not entry:
        raise check.source.error("an empty entry includes nothing", place)
    parts = [check.assignments(key, [value], [f"{place}.{key}"])[0] for key, value in entry.items()]
    return Inclusion(place, tuple(parts))
