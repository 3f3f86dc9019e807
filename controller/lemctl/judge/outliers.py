"""Which runs of a campaign do not belong: generalised ESD on the pooled residuals of a block design.

Each value is the logarithm of a metric for one (experiment, block). Experiment and block effects are fitted and taken
off, and the residuals of all experiments are tested together: five repeats alone cannot tell an outlier (three MADs
at n = 5 flag something in 46 % of clean experiments).
The test is Rosner's (Technometrics 25, 1983) with the critical values of the maximum studentised residual of a linear
model (Lund, Technometrics 17, 1975), because a two-way fit leaves fewer degrees of freedom than a single mean.
A flag is information. Nothing is dropped because of it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lemctl.judge.student import t_quantile

ALPHA = 0.01
MAX_SHARE = 0.1
_SWEEPS = 200

Cell = TypeVar("Cell", bound=Hashable)
Block = TypeVar("Block", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Outlier:
    """One flagged value: its residual (relative, as a log-ratio) and how far beyond the critical value it lies."""

    residual: float
    studentised: float
    critical: float


def find_outliers(
    values: Mapping[tuple[Cell, Block], float], alpha: float = ALPHA, max_share: float = MAX_SHARE
) -> dict[tuple[Cell, Block], Outlier]:
    """The values that the generalised ESD test flags, by (experiment, block).

    `values` are positive figures in one unit; those that are not positive have no logarithm and are left out.
    At most `max_share` of the values (but at least one) is tested. Fewer than three residual degrees of freedom flag
    nothing. Leverages are those of a complete layout, exact there and close where few runs are missing.
    """
    remaining = {key: math.log(value) for key, value in values.items() if value > 0}
    limit = max(1, math.floor(max_share * len(remaining)))
    removed: list[tuple[tuple[Cell, Block], Outlier]] = []
    flagged = 0
    while len(removed) < limit:
        extreme = _most_extreme(remaining, alpha)
        if extreme is None:
            break
        key, outlier = extreme
        removed.append(extreme)
        del remaining[key]
        # The last step that exceeds its critical value decides for all before it: that is what unmasks pairs.
        if outlier.studentised > outlier.critical:
            flagged = len(removed)
    return dict(removed[:flagged])


def _most_extreme(logs: Mapping[tuple[Cell, Block], float], alpha: float) -> tuple[tuple[Cell, Block], Outlier] | None:
    cell_counts: dict[Cell, int] = {}
    block_counts: dict[Block, int] = {}
    for cell, block in logs:
        cell_counts[cell] = cell_counts.get(cell, 0) + 1
        block_counts[block] = block_counts.get(block, 0) + 1
    n = len(logs)
    freedom = n - (len(cell_counts) + len(block_counts) - 1)
    if freedom < 3:
        return None
    residuals = two_way_residuals(logs)
    variance = math.fsum(r * r for r in residuals.values()) / freedom
    if variance <= 0:
        return None

    def studentised(key: tuple[Cell, Block]) -> float:
        leverage = 1 / cell_counts[key[0]] + 1 / block_counts[key[1]] - 1 / n
        # A value alone in its row or column is fitted exactly and says nothing.
        return abs(residuals[key]) / math.sqrt(variance * (1 - leverage)) if leverage < 1 - 1e-9 else 0.0

    key = max(residuals, key=studentised)
    t = t_quantile(1 - alpha / (2 * n), freedom - 1)
    critical = t * math.sqrt(freedom / (freedom - 1 + t * t))
    return key, Outlier(residuals[key], studentised(key), critical)


def two_way_residuals(values: Mapping[tuple[Cell, Block], float]) -> dict[tuple[Cell, Block], float]:
    """What is left of each value after its experiment's and its block's effect (least squares, gaps allowed)."""
    residuals = dict(values)
    tolerance = 1e-12 * (1 + max((abs(value) for value in values.values()), default=0.0))
    for _ in range(_SWEEPS):
        # Taking off row and column means in turn converges to the least-squares fit; at once in a complete layout.
        moved = max(_take_off_means(residuals, 0), _take_off_means(residuals, 1))
        if moved < tolerance:
            break
    return residuals


def _take_off_means(residuals: dict[tuple[Cell, Block], float], axis: int) -> float:
    groups: dict[Hashable, list[tuple[Cell, Block]]] = {}
    for key in residuals:
        groups.setdefault(key[axis], []).append(key)
    largest = 0.0
    for keys in groups.values():
        mean = math.fsum(residuals[key] for key in keys) / len(keys)
        largest = max(largest, abs(mean))
        for key in keys:
            residuals[key] -= mean
    return largest
