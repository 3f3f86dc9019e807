"""Does one configuration differ from another? Paired log-ratios over the blocks that both have, Holm-adjusted.

Pairing within blocks takes drift from night to night and from hour to hour out of the comparison. An engine is loaded
once per block, so its comparisons have blocks - 1 degrees of freedom, however many requests were served.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from lemctl.judge.statistics import CONFIDENCE, Interval
from lemctl.judge.student import t_quantile, t_two_sided_p


@dataclass(frozen=True, slots=True)
class Comparison:
    """`ratio` is the geometric mean of first / second. Without enough common blocks the figures are None."""

    blocks: int
    ratio: float | None
    interval: Interval | None
    p_value: float | None
    reason: str | None


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


def adjust_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the order given; None stays None and is not counted as a test."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted[index] = running
    return adjusted
