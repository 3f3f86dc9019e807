"""Student's t distribution, exact to double precision, from the standard library alone.

The host install has no SciPy: the quantiles that an interval over five runs needs are computed here. A normal
approximation would be off by a factor of 1.4 there.
"""

from __future__ import annotations

import math
from functools import lru_cache

_MAX_ITERATIONS = 400
_TINY = 1e-300
_EPSILON = 1e-16


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Continued fraction of the incomplete beta function (DLMF 8.17.22), evaluated by Lentz's method."""
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _MAX_ITERATIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for coefficient in (even, odd):
            d = 1.0 + coefficient * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + coefficient / c
            c = c if abs(c) > _TINY else _TINY
            value *= c * d
        if abs(c * d - 1.0) < _EPSILON * 8:
            break
    return value


def regularised_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), the regularised incomplete beta function, for a, b > 0 and 0 <= x <= 1."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(log_front) * _beta_fraction(a, b, x) / a
    return 1.0 - math.exp(log_front) * _beta_fraction(b, a, 1.0 - x) / b


def t_upper_tail(t: float, df: float) -> float:
    """P(T > t) for Student's t with `df` > 0 degrees of freedom (need not be whole)."""
    squared = t * t
    # Near the centre df / (df + t^2) rounds to 1 and loses t, so the complement is taken there.
    if squared < 1.0:
        tail = 0.5 - 0.5 * regularised_beta(0.5, df / 2.0, squared / (df + squared))
    else:
        tail = 0.5 * regularised_beta(df / 2.0, 0.5, df / (df + squared))
    return tail if t >= 0 else 1.0 - tail


def t_two_sided_p(t: float, df: float) -> float:
    """P(|T| > |t|): the p value of a two-sided t test."""
    return 2.0 * t_upper_tail(abs(t), df)


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for 0 < p < 1 and df > 0. Raises ValueError outside of that."""
    if not 0.0 < p < 1.0 or df <= 0:
        raise ValueError(f"t_quantile needs 0 < p < 1 and df > 0, got p={p}, df={df}")
    if p == 0.5:
        return 0.0
    tail = min(p, 1.0 - p)
    log_density = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    t = 0.0
    # The tail is convex and falling on t >= 0, so Newton's steps from 0 approach the root from below and never pass it.
    for _ in range(_MAX_ITERATIONS):
        density = math.exp(log_density - (df + 1) / 2 * math.log1p(t * t / df))
        step = (t_upper_tail(t, df) - tail) / density
        t += step
        if abs(step) <= 1e-14 * (1.0 + t):
            break
    return math.copysign(t, p - 0.5)
