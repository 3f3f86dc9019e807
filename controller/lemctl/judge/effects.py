"""Does a circumstance move a figure? The slope of repeats on a covariate, within experiments. Pure.

Experiments differ by more than any covariate: each is taken about its own mean, in relative terms, and only what is
left is regressed. A slope whose interval does not hold 0 says that the circumstance leaks into the figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lemctl.judge.measured import Absent
from lemctl.judge.statistics import CONFIDENCE, Interval
from lemctl.judge.student import t_quantile

MIN_FREEDOM = 3


@dataclass(frozen=True, slots=True)
class Effect:
    """Relative change of the figure for each unit of the covariate, its interval, and the repeats behind it."""

    slope: float
    interval: Interval
    repeats: int
    experiments: int

    @property
    def is_resolved(self) -> bool:
        """Whether the interval leaves 0 out."""
        return not self.interval.holds(0.0)


def residuals(groups: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """experiment -> (covariate, relative deviation of the figure from the experiment's mean), in the order given.

    Experiments with a single repeat or a mean of 0 are left out: they have no deviation.
    """
    found = {}
    for name, pairs in groups.items():
        mean = math.fsum(y for _, y in pairs) / len(pairs) if pairs else 0.0
        if len(pairs) > 1 and mean:
            found[name] = [(x, y / mean - 1.0) for x, y in pairs]
    return found


def find_effect(groups: Mapping[str, Sequence[tuple[float, float]]]) -> Effect | Absent:
    """The common slope over experiments, given as experiment -> (covariate, figure) of each repeat."""
    relative = residuals(groups)
    repeats = sum(len(pairs) for pairs in relative.values())
    freedom = repeats - len(relative) - 1
    if freedom < MIN_FREEDOM:
        return Absent(f"{repeats} repeats of {len(relative)} experiments are too few for a slope")
    centred = []
    for pairs in relative.values():
        mean_x = math.fsum(x for x, _ in pairs) / len(pairs)
        centred += [(x - mean_x, y) for x, y in pairs]
    spread = math.fsum(x * x for x, _ in centred)
    if spread == 0:
        return Absent("the covariate does not vary within any experiment")
    slope = math.fsum(x * y for x, y in centred) / spread
    error = math.sqrt(math.fsum((y - slope * x) ** 2 for x, y in centred) / freedom / spread)
    half = t_quantile(0.5 + CONFIDENCE / 2, freedom) * error
    return Effect(slope, Interval(slope - half, slope + half), repeats, len(relative))
