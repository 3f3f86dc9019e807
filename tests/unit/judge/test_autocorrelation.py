"""Repeats that resemble those before them: seen by all cells together, and paid for by the interval."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from lemctl.judge.autocorrelation import Correlation, estimate_correlation, widening_of
from lemctl.judge.statistics import t_interval


def campaign(
    rho: float, cells: int, cycles: int, seed: int, drift: float = 0.0, scales: list[float] | None = None
) -> list[dict[int, float]]:
    """Cells that scatter by 2 % about their own truths, which are added to `scales`."""
    draw = random.Random(seed)
    found = []
    for _ in range(cells):
        scale, value, cell = draw.uniform(1, 1000), draw.gauss(0, 1), {}
        for cycle in range(cycles):
            cell[cycle + 1] = scale * (1 + 0.02 * (value + drift * cycle))
            value = rho * value + math.sqrt(1 - rho * rho) * draw.gauss(0, 1)
        found.append(cell)
        if scales is not None:
            scales.append(scale)
    return found


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_all_cells_together_tell_the_correlation_that_each_alone_cannot(rho: float) -> None:
    found = [estimate_correlation(campaign(rho, 60, 5, seed)) for seed in range(30)]
    values = [one.rho for one in found if one is not None]
    assert len(values) == 30
    assert statistics.fmean(values) == pytest.approx(rho, abs=0.06)
    if rho > 0.2:
        told = statistics.fmean(one.u for one in found if one is not None)
        assert statistics.stdev(values) == pytest.approx(told, rel=0.4)


def test_drift_that_all_cells_share_is_no_correlation() -> None:
    shared = [estimate_correlation(campaign(0.0, 40, 5, seed, drift=1.0)) for seed in range(20)]
    assert statistics.fmean(one.rho for one in shared if one is not None) < 0.08


def test_too_few_repeats_tell_nothing() -> None:
    assert estimate_correlation(campaign(0.3, 4, 5, 1)) is None
    assert estimate_correlation([]) is None
    assert estimate_correlation([dict.fromkeys(range(1, 6), 5.0) for _ in range(10)]) is None


def test_a_cell_about_zero_says_nothing_and_takes_nothing_from_the_others() -> None:
    cells = campaign(0.5, 40, 5, 3)
    idle = [dict.fromkeys(range(1, 6), 0.0), {1: -1.0, 2: 1.0, 3: 0.0}]
    assert estimate_correlation([*idle, *cells]) == estimate_correlation(cells)


def test_cycles_that_failed_are_no_neighbours() -> None:
    gaps = [{cycle: value for cycle, value in cell.items() if cycle % 2} for cell in campaign(0.5, 40, 9, 2)]
    assert estimate_correlation(gaps) is None


def test_independent_repeats_cost_nothing_and_correlated_ones_more_with_every_cycle() -> None:
    assert widening_of(5, 0.0) == 1.0
    assert widening_of(1, 0.5) == 1.0
    # n = 5, rho = 0.3: 1 + 2 (0.8 * 0.3 + 0.6 * 0.09 + 0.4 * 0.027 + 0.2 * 0.0081) = 1.61284.
    assert widening_of(5, 0.3) == pytest.approx(math.sqrt(1.61284 / (1 - 0.61284 / 4)))
    assert widening_of(40, 0.3) > widening_of(5, 0.3) - 0.05


def test_widened_intervals_hold_the_truth_where_plain_ones_do_not() -> None:
    plain: list[bool] = []
    widened: list[bool] = []
    for seed in range(150):
        truths: list[float] = []
        cells = campaign(0.3, 12, 5, seed, scales=truths)
        found = estimate_correlation(cells)
        assert isinstance(found, Correlation)
        for cell, truth in zip(cells, truths, strict=True):
            for factor, hits in ((1.0, plain), (found.widening(5), widened)):
                interval = t_interval(list(cell.values()), widening=factor)
                assert interval is not None
                hits.append(interval.holds(truth))
    assert statistics.fmean(plain) < 0.915
    assert statistics.fmean(widened) > 0.925
