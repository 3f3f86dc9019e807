"""Idle power from a series of readings: median, spread, and an uncertainty that knows of autocorrelation. Pure.

B0 is the GPU without a context, B1 with a container's CUDA context, B2 with the model loaded and no request. B2 is
taken before and after the work, and what lies between the two enters its uncertainty.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Standard deviation of a normal distribution over its MAD, and of its median over that of its mean.
SD_PER_MAD = 1.4826
MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)
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
    effective = effective_sample_size(usable)
    # Coarse sensors repeat themselves until the MAD is 0, though they do scatter.
    sd = SD_PER_MAD * mad if mad > 0 else statistics.stdev(usable)
    return Baseline(median, mad, MEDIAN_EFFICIENCY * sd / math.sqrt(effective), n, effective)


def effective_sample_size(values: Sequence[float]) -> float:
    """How many independent values a series is worth: n / (1 + 2 sum of autocorrelations), between 1 and n.

    The sum stops at the first pair of lags whose correlations add up to nothing (Geyer's initial positive sequence,
    Statistical Science 7, 1992).
    """
    n = len(values)
    mean = math.fsum(values) / n
    centred = [value - mean for value in values]
    variance = math.fsum(value * value for value in centred) / n
    if n < 4 or variance == 0:
        return float(n)

    def correlation(lag: int) -> float:
        return sum(a * b for a, b in zip(centred, centred[lag:], strict=False)) / n / variance

    total = -1.0
    for lag in range(0, n // 2, 2):
        pair = correlation(lag) + correlation(lag + 1)
        if pair <= 0:
            break
        total += 2 * pair
    return min(float(n), max(1.0, n / max(total, 1e-9)))


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
