"""Idle power from a series of readings: median, spread, and an uncertainty that knows of autocorrelation. Pure.

B0 is the GPU without a context, B1 with a container's CUDA context, B2 with the model loaded and no request. B2 is
taken before and after the work, and what lies between the two enters its uncertainty.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Standard deviation of a normal distribution over its MAD.
SD_PER_MAD = 1.4826
MIN_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Baseline:
    """Idle power in W. `u_w` is the standard uncertainty of `power_w`."""

    power_w: float
    mad_w: float
    u_w: float
    samples: int
    effective_samples: float


@dataclass(frozen=True, slots=True)
class NoBaseline:
    """There is no baseline, and why."""

    reason: str


def estimate_baseline(powers_w: Sequence[float | None]) -> Baseline | NoBaseline:
    """The baseline of an evenly sampled series in W; None and 0 are unreadable samples and left out."""
    usable = [power for power in powers_w if power]
    n = len(usable)
    if n < MIN_SAMPLES:
        return NoBaseline(f"{n} usable power readings, at least {MIN_SAMPLES} are needed")
    median = statistics.median(usable)
    mad = statistics.median(abs(power - median) for power in usable)
    correlations = autocorrelations(usable)
    # Coarse sensors repeat themselves until the MAD is 0, though they do scatter.
    sd = SD_PER_MAD * mad if mad > 0 else statistics.stdev(usable)
    # Variance of the median of a correlated normal series: sd^2 / n times the sum of arcsin over all lags, which is
    # pi / 2 for independent values. Correlation costs a median less than it costs a mean.
    u_w = sd * math.sqrt((math.pi / 2 + 2 * math.fsum(math.asin(rho) for rho in correlations)) / n)
    return Baseline(median, mad, u_w, n, effective_sample_size(n, correlations))


def effective_sample_size(n: int, correlations: Sequence[float]) -> float:
    """How many independent values the mean of `n` correlated ones is worth: n / (1 + 2 sum), between 1 and n."""
    return min(float(n), max(1.0, n / (1.0 + 2.0 * math.fsum(correlations))))


def autocorrelations(values: Sequence[float]) -> list[float]:
    """Autocorrelations from lag 1 on, as far as they say anything; empty for a series that does not vary.

    They end before the first pair of lags that adds up to nothing (Geyer's initial positive sequence, Statistical
    Science 7, 1992). A sum below zero is taken as none: a series is not worth more than its independent values.
    """
    n = len(values)
    mean = math.fsum(values) / n
    centred = [value - mean for value in values]
    variance = math.fsum(value * value for value in centred)
    if variance == 0:
        return []

    def correlation(lag: int) -> float:
        return sum(a * b for a, b in zip(centred, centred[lag:], strict=False)) / variance

    found: list[float] = []
    for lag in range(1, n // 2, 2):
        pair = [correlation(lag), correlation(lag + 1)]
        if sum(pair) <= 0:
            break
        found += pair
    return found if sum(found) > 0 else []


def combine_baselines(before: Baseline, after: Baseline) -> tuple[float, float]:
    """Power in W during the work between two baselines, and its standard uncertainty.

    The mean of both. What their difference d shows beyond their own noise is drift: the mean of a random walk between
    two known ends scatters with d / sqrt(12) about their middle, as does a value anywhere between them.
    """
    drift = (after.power_w - before.power_w) ** 2 - before.u_w**2 - after.u_w**2
    within = (before.u_w**2 + after.u_w**2) / 4
    return (before.power_w + after.power_w) / 2, math.sqrt(within + max(0.0, drift) / 12)


def relative_shift(earlier_w: float, later_w: float) -> float:
    """(later - earlier) / earlier: what the drift warning judges."""
    return (later_w - earlier_w) / earlier_w
