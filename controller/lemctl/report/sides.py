"""Which experiment of one side stands against which of the other, where two campaigns or commits are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lemctl.lines import plural
from lemctl.report.comparison import Subject
from lemctl.store.read_comparison import Measurement


@dataclass(frozen=True)
class Matched:
    """The pairs (first, second, setting), by what they were found, and what is left over."""

    pairs: list[tuple[Subject, Subject, dict[str, Any]]]
    by: str
    left_over: list[str]
    #: Experiments of the first side that the second has no results of.
    lost: int = 0

    def uncompared(self, metrics: Sequence[str]) -> list[str]:
        """What the first side tells and the second does not, a line each: a gate must not pass it."""
        found = [f"{plural(self.lost, 'experiment')} of A without a result in B"] if self.lost else []
        for first, second, setting in self.pairs:
            place = ", ".join(f"{key}={value}" for key, value in setting.items())
            lacking = [name for name in metrics if _tells(first, name) and not _tells(second, name)]
            found += [f"{name}{f' at {place}' if place else ''} is told by A alone" for name in lacking]
        return found


def _tells(subject: Subject, metric: str) -> bool:
    return any(result.figures.get(metric, (None, ""))[0] is not None for result in subject.results)


def match(
    one: Sequence[Measurement], other: Sequence[Measurement], names: tuple[str, str], *, may_differ: bool = False
) -> Matched:
    """Equal experiments; without any, those with equal swept values; without any, the only one of each side.

    `may_differ`: both sides are single experiments that a person chose.
    """
    sides = [_by_experiment(results) for results in (one, other)]
    if may_differ:
        pairs, by = [_pair(sides, names, next(iter(sides[0])), next(iter(sides[1])))], "chosen"
    elif common := [experiment for experiment in sides[0] if experiment in sides[1]]:
        pairs, by = [_pair(sides, names, experiment, experiment) for experiment in common], "equal experiments"
    else:
        keys = [{_key(results): experiment for experiment, results in side.items()} for side in sides]
        # Where two experiments of a side have the same swept values, these do not tell which one is meant.
        are_told = all(len(found) == len(side) for found, side in zip(keys, sides, strict=True))
        alike = [key for key in keys[0] if key in keys[1]] if are_told else []
        pairs = [_pair(sides, names, keys[0][key], keys[1][key]) for key in alike]
        by = "equal swept values"
        if not pairs and all(len(side) == 1 for side in sides):
            pairs, by = [_pair(sides, names, next(iter(sides[0])), next(iter(sides[1])))], "the only ones"
    used = [{first.experiment for first, _, _ in pairs}, {second.experiment for _, second, _ in pairs}]
    left_over = [
        f"{plural(len(side) - len(taken), 'experiment')} of {name}"
        for side, taken, name in zip(sides, used, names, strict=True)
        if len(side) > len(taken)
    ]
    return Matched(pairs, by, left_over, lost=len(sides[0]) - len(used[0]))


def _by_experiment(results: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    grouped: dict[str, list[Measurement]] = {}
    for result in results:
        grouped.setdefault(result.experiment, []).append(result)
    return grouped


def _key(results: Sequence[Measurement]) -> str:
    return repr(sorted(results[0].axes.items(), key=lambda item: item[0]))


def _pair(
    sides: Sequence[dict[str, list[Measurement]]], names: tuple[str, str], one: str, other: str
) -> tuple[Subject, Subject, dict[str, Any]]:
    first, second = sides[0][one], sides[1][other]
    shared = {key: value for key, value in first[0].axes.items() if second[0].axes.get(key) == value}
    return Subject(names[0], first), Subject(names[1], second), shared
