"""Whether repeats resemble those before them, and what that does to an interval. Pure.

Repeats measured one after another share the room, the board's temperature, and whatever else moves slowly: each then
says less than an independent one would, and a t-interval that takes them as independent is too narrow. Five values
cannot tell how much they resemble each other, but all cells of a campaign together can. Blocks are taken out first:
what moved all cells alike is drift, which blocks deal with.

Model: within a cell, a stationary first-order autoregression, the same in all cells.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Fewer pairs of neighbouring repeats do not tell a correlation from chance.
MIN_PAIRS = 20
#: A correlation beyond this would mean that a single repeat says as much as all.
CEILING = 0.9
_TOLERANCE, _STEP = 1e-3, 1e-2

#: Values by cycle, of one experiment.
Repeats = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Correlation of neighbouring repeats, pooled over a campaign's cells; `u` is its standard uncertainty."""

    rho: float
    u: float
    pairs: int

    def widening(self, n: int) -> float:
        """What the t-interval of n repeats is to be multiplied with."""
        return widening_of(n, self.rho)


def estimate_correlation(cells: Sequence[Repeats]) -> Correlation | None:
    """The pooled correlation of neighbouring cycles; None where there are too few. Negative ones read as 0."""
    residuals = _without_blocks([freed for cell in cells if len(cell) > 2 and (freed := _relative(cell))])
    products = squares = 0.0
    pairs = 0
    shapes: list[tuple[int, ...]] = []
    for cell in residuals:
        found = [cell[cycle] * cell[cycle + 1] for cycle in cell if cycle + 1 in cell]
        products += math.fsum(found)
        squares += math.fsum(value * value for value in cell.values())
        pairs += len(found)
        shapes.append(tuple(sorted(cell)))
    if pairs < MIN_PAIRS or squares == 0:
        return None
    rho = _solve(products / squares, shapes)
    # Taking out each cell's mean hides part of the correlation; finding it again magnifies the chance in it.
    slope = (_expected_quotient(rho + _STEP, shapes) - _expected_quotient(rho, shapes)) / _STEP
    return Correlation(rho, _quotient_u(shapes) / slope, pairs)


@lru_cache(maxsize=1024)
def widening_of(n: int, rho: float) -> float:
    """Half-width that n correlated repeats need over the one that they seem to need.

    The mean's variance is larger than s^2 / n, and s^2 itself is too small, both by the same sum over all lags.
    """
    if n < 2 or rho <= 0:
        return 1.0
    inflation = 1 + 2 * math.fsum((1 - lag / n) * rho**lag for lag in range(1, n))
    return math.sqrt(inflation / (1 - (inflation - 1) / (n - 1)))


def _relative(cell: Repeats) -> dict[int, float]:
    """Deviations from the cell's mean as shares of it; nothing where the mean is 0."""
    mean = statistics.fmean(cell.values())
    return {cycle: value / mean - 1 for cycle, value in cell.items()} if mean else {}


def _without_blocks(cells: Sequence[dict[int, float]]) -> list[dict[int, float]]:
    """Take out what the cells of a block have in common; below three cells there is no telling."""
    if len(cells) < 3:
        return list(cells)
    blocks: dict[int, list[float]] = {}
    for cell in cells:
        for cycle, value in cell.items():
            blocks.setdefault(cycle, []).append(value)
    common = {cycle: statistics.fmean(values) if len(values) > 2 else 0.0 for cycle, values in blocks.items()}
    freed = [{cycle: value - common[cycle] for cycle, value in cell.items()} for cell in cells]
    return [{cycle: value - statistics.fmean(cell.values()) for cycle, value in cell.items()} for cell in freed]


def _solve(observed: float, shapes: Sequence[tuple[int, ...]]) -> float:
    """The correlation at which the pooled quotient is expected as observed: the quotient itself is biased downwards,
    because each cell's mean is its own."""
    low, high = 0.0, CEILING
    if observed <= _expected_quotient(low, shapes):
        return 0.0
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if _expected_quotient(middle, shapes) < observed else (low, middle)
    return (low + high) / 2


def _quotient_u(shapes: Sequence[tuple[int, ...]]) -> float:
    """Standard uncertainty of the pooled quotient: that of a lag-1 autocorrelation of n values about their own mean is
    (n - 2) / (n sqrt(n - 1)) (Moran, Biometrika 35, 1948)."""
    spread = math.fsum(((len(shape) - 2) / len(shape)) ** 2 * (len(shape) - 1) for shape in shapes)
    return math.sqrt(spread) / math.fsum(len(shape) - 1 for shape in shapes)


def _expected_quotient(rho: float, shapes: Sequence[tuple[int, ...]]) -> float:
    sums = [_expected_sums(rho, shape) for shape in shapes]
    return math.fsum(products for products, _ in sums) / math.fsum(squares for _, squares in sums)


@lru_cache(maxsize=4096)
def _expected_sums(rho: float, cycles: tuple[int, ...]) -> tuple[float, float]:
    """Expected sums of products of neighbours and of squares, of deviations from the cell's own mean."""
    n = len(cycles)
    to_mean = {i: math.fsum(rho ** abs(i - j) for j in cycles) / n for i in cycles}
    of_mean = math.fsum(to_mean.values()) / n

    def covariance(i: int, j: int) -> float:
        return float(rho ** abs(i - j)) - to_mean[i] - to_mean[j] + of_mean

    neighbours = [(i, i + 1) for i in cycles if i + 1 in to_mean]
    return math.fsum(covariance(i, j) for i, j in neighbours), math.fsum(covariance(i, i) for i in cycles)
