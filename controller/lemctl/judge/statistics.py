"""What several repeats of one experiment say together: location, spread, and how sure one may be.

Only the repeats' own scatter is in these intervals. A power sensor's gain error (about +-5 % per board) is the same
for all repeats on one GPU and is stated once per report, never folded in here.
Outliers are in `outliers`, comparisons between experiments in `comparison`, adaptive repeats in `stopping`.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lemctl.judge.student import t_quantile

CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval in the unit of the values, with the confidence it claims."""

    low: float
    high: float
    confidence: float = CONFIDENCE

    @property
    def half_width(self) -> float:
        """Half of its length, in the unit of the values."""
        return (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """Whether `value` lies in it."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over the repeats of one experiment. What n repeats cannot tell is None (`reason` says why)."""

    n: int
    mean: float | None
    median: float | None
    sd: float | None
    """Sample standard deviation (n - 1)."""
    cv: float | None
    """sd / |mean|, None where the mean is 0."""
    interval: Interval | None
    """The t-interval of the mean, widened where repeats were adaptive (`stopping`): the one to quote."""
    bootstrap: Interval | None
    """Percentile bootstrap of the mean: a picture of skewness. It covers too little below about n = 15."""
    widening: float
    reason: str | None

    @property
    def relative_half_width(self) -> float | None:
        """Half-width of the t-interval over |mean|, or None."""
        if self.interval is None or not self.mean:
            return None
        return self.interval.half_width / abs(self.mean)


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE, widening: float = 1.0) -> Interval | None:
    """The t-interval of the mean, its half-width multiplied by `widening`; None below two values."""
    n = len(values)
    if n < 2:
        return None
    mean = statistics.fmean(values)
    half = widening * t_quantile(0.5 + confidence / 2, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean - half, mean + half, confidence)


def half_width_in_cv(n: int, confidence: float = CONFIDENCE) -> float:
    """Half-width of the t-interval over n >= 2 repeats, in units of their CV: n=3 2.48, n=5 1.24, n=10 0.72."""
    return t_quantile(0.5 + confidence / 2, n - 1) / math.sqrt(n)


def bootstrap_interval(
    values: Sequence[float],
    seed: int,
    confidence: float = CONFIDENCE,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> Interval | None:
    """Percentile bootstrap of the mean, the same for the same seed; None below two values."""
    n = len(values)
    if n < 2:
        return None
    draw = random.Random(seed)  # noqa: S311 - a reproducible resampling, no secret
    pool = list(values)
    means = sorted(math.fsum(draw.choices(pool, k=n)) / n for _ in range(resamples))
    tail = (1.0 - confidence) / 2
    return Interval(_sorted_quantile(means, tail), _sorted_quantile(means, 1.0 - tail), confidence)


def summarise(values: Sequence[float], *, seed: int = 0, widening: float = 1.0) -> Summary:
    """Location, spread and intervals of one metric over the repeats of one experiment.

    `values` in the metric's unit, only those that count (the caller keeps discarded counts beside n).
    `seed` fixes the bootstrap; `widening` is `stopping.Stop.widening` where the number of repeats was adaptive.
    Raises ValueError on a value that is not finite: an absent figure must be left out, not passed as nan.
    """
    if not all(math.isfinite(value) for value in values):
        raise ValueError("summarise: a value is not finite; leave absent figures out")
    n = len(values)
    if n == 0:
        return Summary(0, None, None, None, None, None, None, widening, "no repeat counts")
    mean, median = statistics.fmean(values), statistics.median(values)
    if n == 1:
        return Summary(1, mean, median, None, None, None, None, widening, "one repeat has no spread")
    sd = statistics.stdev(values)
    return Summary(
        n=n,
        mean=mean,
        median=median,
        sd=sd,
        cv=sd / abs(mean) if mean else None,
        interval=t_interval(values, widening=widening),
        bootstrap=bootstrap_interval(values, seed),
        widening=widening,
        reason=None,
    )


def quantile(values: Sequence[float], p: float) -> float | None:
    """The p-quantile (0 <= p <= 1) with linear interpolation between order statistics; None without values."""
    return _sorted_quantile(sorted(values), p) if values else None


def _sorted_quantile(ordered: Sequence[float], p: float) -> float:
    position = p * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
