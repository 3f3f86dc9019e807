"""Does one configuration differ from another? Paired log-ratios over the blocks that both have, Holm-adjusted.

Pairing within blocks takes drift from night to night and from hour to hour out of the comparison. An engine is loaded
once per block, so its comparisons have blocks - 1 degrees of freedom, however many requests were served. Results of
different GPUs are not paired: nothing ties them, and for energy each board's own gain stands between them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lemctl.judge.statistics import CONFIDENCE, Interval
from lemctl.judge.student import t_quantile, t_two_sided_p

#: How far a power sensor's gain is off, of each board: the half-width of a 95 % interval.
BOARD_GAIN = 0.05
#: A difference is resolved where its adjusted p value is below.
ALPHA = 0.05
#: By a metric's unit, which way is better; the others are only different.
HIGHER_IS_BETTER = frozenset({"token/s", "1/s", "FLOP/s", "token/J", "FLOP/J"})
LOWER_IS_BETTER = frozenset({"s", "byte", "J", "J/output token", "J/total token", "J/request", "J/prompt", "kWh"})
UNITS_OF_ENERGY = frozenset({"W", "token/J", "FLOP/J"}) | {unit for unit in LOWER_IS_BETTER if unit[0] in "Jk"}

Difference = Literal["better", "worse", "higher", "lower", "not resolved"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`ratio` is the geometric mean of first / second. Without enough common blocks the figures are None.

    `blocks` counts the pairs, or without pairing the results of the side that has fewer.
    """

    blocks: int
    ratio: float | None
    interval: Interval | None
    p_value: float | None
    reason: str | None
    is_paired: bool = True


def compare_paired(
    first: Mapping[Hashable, float], second: Mapping[Hashable, float], confidence: float = CONFIDENCE
) -> Comparison:
    """Compare one metric of two experiments, each given as block -> positive value.

    The interval is that of the ratio (back-transformed from logarithms, so not symmetric).
    """
    common = [block for block in first if block in second and first[block] > 0 and second[block] > 0]
    logs = [math.log(first[block] / second[block]) for block in common]
    n = len(logs)
    if n == 0:
        return Comparison(0, None, None, None, "no block in which both have a positive value")
    mean = statistics.fmean(logs)
    if n == 1:
        return Comparison(1, math.exp(mean), None, None, "one common block has no spread")
    error = statistics.stdev(logs) / math.sqrt(n)
    half = t_quantile(0.5 + confidence / 2, n - 1) * error
    interval = Interval(math.exp(mean - half), math.exp(mean + half), confidence)
    if error == 0:
        return Comparison(n, math.exp(mean), interval, 1.0 if mean == 0 else 0.0, None)
    return Comparison(n, math.exp(mean), interval, t_two_sided_p(mean / error, n - 1), None)


def compare_unpaired(
    first: Sequence[float], second: Sequence[float], gain: float = 0.0, confidence: float = CONFIDENCE
) -> Comparison:
    """As `compare_paired` for results that nothing ties together: Welch's t on logarithms.

    `gain` is the 95 % half-width of each side's own systematic error, as a share; it widens the interval and the test.
    """
    logs = [[math.log(value) for value in side if value > 0] for side in (first, second)]
    n = min(map(len, logs))
    if n == 0:
        return Comparison(0, None, None, None, "one side has no positive value", is_paired=False)
    mean = statistics.fmean(logs[0]) - statistics.fmean(logs[1])
    if n == 1:
        return Comparison(1, math.exp(mean), None, None, "one result has no spread", is_paired=False)
    parts = [statistics.variance(side) / len(side) for side in logs]
    systematic = math.sqrt(2) * gain / t_quantile(0.5 + confidence / 2, 1e6)
    error = math.hypot(math.sqrt(sum(parts)), systematic)
    weights = sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    df = sum(parts) ** 2 / weights if weights else float(len(logs[0]) + len(logs[1]) - 2)
    half = t_quantile(0.5 + confidence / 2, df) * error
    interval = Interval(math.exp(mean - half), math.exp(mean + half), confidence)
    if error == 0:
        return Comparison(n, math.exp(mean), interval, 1.0 if mean == 0 else 0.0, None, is_paired=False)
    return Comparison(n, math.exp(mean), interval, t_two_sided_p(mean / error, df), None, is_paired=False)


def difference(ratio: float | None, p_adjusted: float | None, unit: str) -> Difference:
    """What a comparison comes to, for the first of the two. `unit` says which way is better."""
    if ratio is None or p_adjusted is None or p_adjusted >= ALPHA or ratio == 1:
        return "not resolved"
    if unit in HIGHER_IS_BETTER:
        return "better" if ratio > 1 else "worse"
    if unit in LOWER_IS_BETTER:
        return "better" if ratio < 1 else "worse"
    return "higher" if ratio > 1 else "lower"


def adjust_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the order given; None stays None and is not counted as a test."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted[index] = running
    return adjusted
