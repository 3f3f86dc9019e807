"""Slopes and cooling curves through whole-degree readings, by least squares. Pure.

NVML temperatures are whole degrees: two neighbouring readings say nothing about a slope, thirty seconds of them do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Cooling constants that are tried first, in s: from a small blower card to a large passive sink.
_TAU_STEP = 1.3
_TAUS_S = tuple(8.0 * _TAU_STEP**step for step in range(13))
_REFINEMENTS = 4
_BINS = 32
_MIN_POINTS = 12
_MIN_SPAN_S = 20.0
#: Variance of rounding to whole degrees, in C^2. Not divided by the readings in a bin: neighbours share one error.
_ROUNDING_VARIANCE = 1 / 12


@dataclass(frozen=True, slots=True)
class Asymptote:
    """T(t) = temp_c + amplitude_c exp(-(t - t0) / tau_s), fitted; `u_c` is the standard uncertainty of temp_c."""

    temp_c: float
    u_c: float
    amplitude_c: float
    tau_s: float

    def seconds_until(self, temp_c: float, now_c: float) -> float | None:
        """Seconds that cooling from `now_c` to `temp_c` takes; 0 where it is there, None where it never gets there."""
        if now_c <= temp_c:
            return 0.0
        if temp_c <= self.temp_c:
            return None
        return self.tau_s * math.log((now_c - self.temp_c) / (temp_c - self.temp_c))


def fit_slope(times_s: Sequence[float], values: Sequence[float]) -> float | None:
    """Least-squares slope in units per s, None where all times are the same or there are fewer than three."""
    n = len(times_s)
    if n < 3:
        return None
    mean_t, mean_v = math.fsum(times_s) / n, math.fsum(values) / n
    spread = math.fsum((t - mean_t) ** 2 for t in times_s)
    if spread == 0:
        return None
    return math.fsum((t - mean_t) * (v - mean_v) for t, v in zip(times_s, values, strict=True)) / spread


def fit_asymptote(times_s: Sequence[float], temps_c: Sequence[float]) -> Asymptote | None:
    """Where a cooling GPU is heading, None while the curve does not tell (too short, heating, or not bending).

    Asymptote and amplitude are linear for a given constant; the constant is searched on a grid and then refined.
    """
    if len(times_s) < _MIN_POINTS or times_s[-1] - times_s[0] < _MIN_SPAN_S:
        return None
    times, temps = _binned(times_s, temps_c)
    fits = [fit for tau_s in _TAUS_S if (fit := _fit_with(tau_s, times, temps)) is not None]
    if not fits:
        return None
    best = min(fits, key=lambda fit: fit.squares)
    ratio = _TAU_STEP
    for _ in range(_REFINEMENTS):
        ratio = math.sqrt(ratio)
        near = [_fit_with(best.tau_s * factor, times, temps) for factor in (1 / ratio, ratio)]
        best = min((best, *(fit for fit in near if fit is not None)), key=lambda fit: fit.squares)
    leverage = _asymptote_leverage(best, times)
    if leverage is None:
        return None
    noise = max(best.squares / max(1, len(times) - 3), _ROUNDING_VARIANCE)
    return Asymptote(best.asymptote_c, math.sqrt(noise * leverage), best.amplitude_c, best.tau_s)


@dataclass(frozen=True, slots=True)
class _Fit:
    tau_s: float
    asymptote_c: float
    amplitude_c: float
    squares: float


def _fit_with(tau_s: float, times_s: Sequence[float], temps_c: Sequence[float]) -> _Fit | None:
    """Straight line in exp(-t / tau): its intercept is the asymptote. None for a curve that heats."""
    n = len(times_s)
    shape = [math.exp(-t / tau_s) for t in times_s]
    mean_x, mean_y = sum(shape) / n, sum(temps_c) / n
    spread = sum((x - mean_x) ** 2 for x in shape)
    if spread < 1e-9:
        return None
    amplitude = sum((x - mean_x) * (y - mean_y) for x, y in zip(shape, temps_c, strict=True)) / spread
    if amplitude <= 0:
        return None
    asymptote = mean_y - amplitude * mean_x
    squares = sum((y - asymptote - amplitude * x) ** 2 for x, y in zip(shape, temps_c, strict=True))
    return _Fit(tau_s, asymptote, amplitude, squares)


def _asymptote_leverage(fit: _Fit, times_s: Sequence[float]) -> float | None:
    """Variance of the asymptote per unit of noise variance, the constant unknown too: (J^T J)^-1 at its first place."""
    n = float(len(times_s))
    shape = [math.exp(-t / fit.tau_s) for t in times_s]
    bend = [fit.amplitude_c * x * t / fit.tau_s**2 for x, t in zip(shape, times_s, strict=True)]
    sx, sb = sum(shape), sum(bend)
    sxx, sbb = sum(x * x for x in shape), sum(b * b for b in bend)
    sxb = sum(x * b for x, b in zip(shape, bend, strict=True))
    minor = sxx * sbb - sxb * sxb
    determinant = n * minor - sx * (sx * sbb - sxb * sb) + sb * (sx * sxb - sxx * sb)
    return minor / determinant if determinant > 0 and minor > 0 else None


def _binned(times_s: Sequence[float], temps_c: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means over at most `_BINS` neighbouring groups; times count from the first reading."""
    size = max(1, math.ceil(len(times_s) / _BINS))
    groups = [slice(start, start + size) for start in range(0, len(times_s), size)]
    times = [math.fsum(times_s[g]) / len(times_s[g]) - times_s[0] for g in groups]
    return times, [math.fsum(temps_c[g]) / len(temps_c[g]) for g in groups]
