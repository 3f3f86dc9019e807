"""Two experiments side by side: was it the same work, and how do their figures differ?

Figures are compared only where the work was the same; otherwise what differed is said in their place. Ratios are of the
second over the first, paired by block where both were measured on the same GPUs, and Holm-adjusted over the whole
report.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from lemctl.judge.comparison import (
    BOARD_GAIN,
    UNITS_OF_ENERGY,
    Comparison,
    Difference,
    adjust_holm,
    compare_paired,
    compare_unpaired,
    difference,
)
from lemctl.judge.equivalence import Agreement, Output, Work, agreement, differences
from lemctl.report.figures import sort_key
from lemctl.store.read_comparison import Measurement

#: The figures that are compared where none are named.
COMPARED = ("output_tokens_per_s", "ttft_p50", "itl_p50", "energy_per_output_token")
ReadOutputs = Callable[[str], Sequence[tuple[str, str, Sequence[int]]]]


@dataclass(frozen=True)
class Subject:
    """One side: what it is called, and its results that count, oldest first."""

    name: str
    results: Sequence[Measurement]

    @property
    def experiment(self) -> str:
        """Hash of the configuration."""
        return self.results[0].experiment

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, without the results."""
        first = self.results[0]
        body: dict[str, Any] = {"name": self.name, "experiment": first.experiment, "backend": first.backend}
        work = None if first.work is None else {name: first.work[name] for name in sorted(first.work)}
        return body | {"model": first.model, "axes": first.axes, "results": len(self.results), "work": work}


@dataclass(frozen=True)
class Contrast:
    """One metric of a pair: second over first. `verdict` is that of the second."""

    metric: str
    unit: str
    comparison: Comparison
    p_adjusted: float | None = None
    verdict: Difference = "not resolved"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        made = self.comparison
        interval = None if made.interval is None else [made.interval.low, made.interval.high]
        body: dict[str, Any] = {"unit": self.unit, "blocks": made.blocks, "paired": made.is_paired}
        body |= {"ratio": made.ratio, "interval": interval, "p": made.p_value, "p_adjusted": self.p_adjusted}
        return body | {"verdict": self.verdict, "reason": made.reason}


@dataclass(frozen=True)
class Pair:
    """Two subjects. With `differences` the work was not the same, and there are no contrasts."""

    first: Subject
    second: Subject
    setting: dict[str, Any]
    """The swept values that both share."""
    differences: tuple[str, ...]
    texts: Agreement | None
    texts_judge: bool
    """Whether the texts had to agree: float32, greedy."""
    contrasts: dict[str, Contrast] = field(default_factory=dict)

    @property
    def is_refused(self) -> bool:
        """Whether the work differed."""
        return bool(self.differences)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        texts = self.texts
        return {
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "setting": self.setting,
            "same_work": not self.differences,
            "differences": list(self.differences),
            "texts": None
            if texts is None
            else {
                "compared": texts.compared,
                "agreed": texts.agreed,
                "share": texts.share,
                "common_tokens": texts.common_tokens,
                "judged": self.texts_judge,
            },
            "metrics": {name: contrast.to_json() for name, contrast in self.contrasts.items()},
        }


def compare(
    pairs: Iterable[tuple[Subject, Subject, dict[str, Any]]], metrics: Sequence[str], read_outputs: ReadOutputs
) -> list[Pair]:
    """Every pair (first, second, the setting they share) with every metric that both have."""
    texts_of = _Texts(read_outputs)
    found = [_pair(first, second, setting, metrics, texts_of) for first, second, setting in pairs]
    tests = [contrast.comparison.p_value for pair in found for contrast in pair.contrasts.values()]
    adjusted = iter(adjust_holm(tests))
    return [replace(pair, contrasts=_judged(pair.contrasts, adjusted)) for pair in found]


def backend_pairs(results: Sequence[Measurement]) -> Iterator[tuple[Subject, Subject, dict[str, Any]]]:
    """Every two experiments of a campaign that differ in the backend alone, and in parameters that only one of them
    has; the backend that the campaign names first comes first."""
    experiments: dict[str, list[Measurement]] = {}
    for result in sorted(results, key=lambda one: one.run):
        experiments.setdefault(result.experiment, []).append(result)
    backends = list(dict.fromkeys(group[0].backend for group in experiments.values()))
    groups: dict[str, list[tuple[dict[str, Any], list[Measurement]]]] = {}
    for group in experiments.values():
        shared = shared_axes(group[0].axes, backends)
        groups.setdefault(repr(sorted(shared.items())), []).append((shared, group))
    for members in sorted(groups.values(), key=lambda members: [sort_key(value) for value in members[0][0].values()]):
        ordered = sorted(members, key=lambda member: backends.index(member[1][0].backend))
        for place, (setting, one) in enumerate(ordered):
            for _, other in ordered[place + 1 :]:
                if one[0].backend != other[0].backend:
                    yield Subject(_name(one[0], setting), one), Subject(_name(other[0], setting), other), setting


def shared_axes(axes: Mapping[str, Any], backends: Iterable[str]) -> dict[str, Any]:
    """The swept values without the backend and what is scoped to one."""
    scopes = (*(f"{backend}." for backend in backends), "backend")
    return {key: value for key, value in axes.items() if not key.startswith(scopes)}


def _name(result: Measurement, setting: Mapping[str, Any]) -> str:
    """The backend, with the parameters that set it apart from others of that backend."""
    own = {key: value for key, value in result.axes.items() if key not in setting and key != "backend"}
    return " ".join([result.backend, *(f"{key.rpartition('.')[2]}={value}" for key, value in own.items())])


def work_groups(results: Sequence[Measurement]) -> tuple[dict[str, str], list[str]]:
    """(experiment -> letter, what tells each letter from the first): experiments of one letter did the same work.
    Nothing where all did."""
    firsts: dict[str, dict[str, Any] | None] = {}
    for result in sorted(results, key=lambda one: one.run):
        firsts.setdefault(result.experiment, result.work)
    kinds: list[Work | None] = []
    letters: dict[str, str] = {}
    for experiment, document in firsts.items():
        work = None if document is None else Work.from_json(document)
        place = next((n for n, kind in enumerate(kinds) if _is_same(kind, work)), len(kinds))
        kinds += [work] if place == len(kinds) else []
        letters[experiment] = _letter(place)
    if len(kinds) < 2:
        return {}, []
    return letters, [
        f"{_letter(place)} against {_letter(0)}: {'; '.join(differences(kind, kinds[0]))}"
        for place, kind in enumerate(kinds[1:], start=1)
    ]


def _is_same(kind: Work | None, work: Work | None) -> bool:
    return kind is work is None or (kind is not None and work is not None and not differences(kind, work))


def _letter(place: int) -> str:
    """a to z, then aa, ab, ..."""
    lead = _letter(place // 26 - 1) if place >= 26 else ""
    return lead + "abcdefghijklmnopqrstuvwxyz"[place % 26]


class _Texts:
    """Agreement of stored outputs; what many attempts share is read and compared once."""

    def __init__(self, read: ReadOutputs):
        self._read = lru_cache(maxsize=64)(lambda digest: [Output(*row) for row in read(digest)])
        self._known: dict[tuple[str, str], Agreement | None] = {}

    def of(self, first: str | None, second: str | None) -> Agreement | None:
        """How two kept sets of outputs agree; None where one was not kept."""
        if first is None or second is None:
            return None
        if (first, second) not in self._known:
            self._known[first, second] = agreement(self._read(first), self._read(second))
        return self._known[first, second]


def _pair(first: Subject, second: Subject, setting: dict[str, Any], metrics: Sequence[str], texts_of: _Texts) -> Pair:
    is_paired = len({result.place for side in (first, second) for result in side.results}) == 1
    sides = _blocks(first, second)
    common = [block for block in sides[0] if block in sides[1]]
    # Unpaired, every result of one side stands against every one of the other: the first two speak for all.
    blocks = [(sides[0][block], sides[1][block]) for block in common] or [(first.results[0], second.results[0])]
    found: dict[str, None] = {}
    agreements = []
    works: list[Work] = []
    for one, other in blocks:
        texts = texts_of.of(one.outputs, other.outputs)
        agreements += [] if texts is None else [texts]
        both = [None if side.work is None else Work.from_json(side.work) for side in (one, other)]
        works += [work for work in both if work is not None]
        found.update(dict.fromkeys(differences(both[0], both[1], texts)))
    texts_judge = bool(works) and all(work.proves_by_text for work in works)
    pair = Pair(first, second, setting, tuple(found), _together(agreements), texts_judge)
    if found:
        return pair
    return replace(pair, contrasts=dict(_contrasts(sides, metrics, is_paired)))


def _blocks(first: Subject, second: Subject) -> tuple[dict[Hashable, Measurement], dict[Hashable, Measurement]]:
    """The results of both sides by block: the cycle within a campaign that both belong to, else their order."""
    by_cycle = [{(r.campaign_id, r.cycle): r for r in side.results} for side in (first, second)]
    if any(block in by_cycle[1] for block in by_cycle[0]):
        return _as_blocks(by_cycle[0]), _as_blocks(by_cycle[1])
    if all(len({r.campaign_id for r in side.results}) == 1 for side in (first, second)):
        return {r.cycle: r for r in first.results}, {r.cycle: r for r in second.results}
    return dict(enumerate(first.results)), dict(enumerate(second.results))


def _as_blocks(results: Mapping[tuple[int, int], Measurement]) -> dict[Hashable, Measurement]:
    return dict(results.items())


def _together(agreements: Sequence[Agreement]) -> Agreement | None:
    compared = sum(one.compared for one in agreements)
    if not compared:
        return None
    common = sum(one.common_tokens * one.compared for one in agreements) / compared
    return Agreement(compared, sum(one.agreed for one in agreements), common)


def _contrasts(
    sides: tuple[dict[Hashable, Measurement], dict[Hashable, Measurement]], metrics: Sequence[str], is_paired: bool
) -> Iterator[tuple[str, Contrast]]:
    for metric in metrics:
        values = [_values(side, metric) for side in sides]
        unit = next((r.figures[metric][1] for side in sides for r in side.values() if metric in r.figures), None)
        if unit is None or not all(values):
            continue
        if is_paired:
            made = compare_paired(values[1], values[0])
        else:
            gain = BOARD_GAIN if unit in UNITS_OF_ENERGY else 0.0
            made = compare_unpaired(list(values[1].values()), list(values[0].values()), gain)
        yield metric, Contrast(metric, unit, made)


def _values(side: Mapping[Hashable, Measurement], metric: str) -> dict[Hashable, float]:
    found = ((block, result.figures.get(metric, (None, ""))[0]) for block, result in side.items())
    return {block: value for block, value in found if value is not None}


def _judged(contrasts: Mapping[str, Contrast], adjusted: Iterator[float | None]) -> dict[str, Contrast]:
    made = {}
    for name, contrast in contrasts.items():
        p = next(adjusted)
        made[name] = replace(contrast, p_adjusted=p, verdict=difference(contrast.comparison.ratio, p, contrast.unit))
    return made
