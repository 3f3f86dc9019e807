from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats

from lemctl.judge.measured import Absent
from lemctl.judge.regression import LengthModel, fit_lengths

GRID = [(a, b) for a in (64, 256, 1024, 2048) for b in (32, 128, 512, 1024)]


def energy_j(tokens_in: float, tokens_out: float) -> float:
    return 2.0 + 0.01 * tokens_in + 0.3 * tokens_out + 2e-5 * tokens_in * tokens_out + 1e-5 * tokens_out**2


def runs(noise_j: float, seed: int = 1, repeats: int = 3) -> list[tuple[float, float, float]]:
    draw = random.Random(seed)
    return [(a, b, energy_j(a, b) + draw.gauss(0, noise_j)) for a, b in GRID for _ in range(repeats)]


def test_coefficients_and_intervals_equal_ordinary_least_squares() -> None:
    data = runs(5.0)
    model = fit_lengths(data)
    assert isinstance(model, LengthModel)
    lengths = np.array([(a, b) for a, b, _ in data], dtype=float)
    x, y = (lengths - lengths.mean(axis=0)).T
    design = np.column_stack([np.ones_like(x), x, y, x * y, y * y])
    target = np.array([e for _, _, e in data])
    beta, *_ = np.linalg.lstsq(design, target, rcond=None)
    freedom = len(data) - 5
    variance = ((target - design @ beta) ** 2).sum() / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    half = stats.t.ppf(0.975, freedom) * errors
    assert [term.coefficient for term in model.terms] == pytest.approx(list(beta), rel=1e-6)
    assert [term.interval.half_width for term in model.terms] == pytest.approx(list(half), rel=1e-6)
    assert model.residual_sd_j == pytest.approx(np.sqrt(variance))


def test_the_slopes_at_the_centre_are_those_of_the_true_model() -> None:
    model = fit_lengths(runs(0.01))
    assert isinstance(model, LengthModel)
    slope_in = 0.01 + 2e-5 * model.centre_out
    slope_out = 0.3 + 2e-5 * model.centre_in + 2e-5 * model.centre_out
    assert model.terms[1].coefficient == pytest.approx(slope_in, rel=0.01)
    assert model.terms[2].coefficient == pytest.approx(slope_out, rel=0.01)


def test_a_grid_that_ties_both_lengths_together_is_refused() -> None:
    tied = [(b * 2 + (b % 3), b, energy_j(b * 2, b)) for b in range(32, 1024, 48)]
    refused = fit_lengths(tied)
    assert isinstance(refused, Absent)
    assert "inflation" in refused.reason or "apart" in refused.reason


@pytest.mark.parametrize(
    "data",
    [
        [(64, 32, 1.0), (128, 64, 2.0)],
        [(64.0, float(b), energy_j(64, b)) for b in range(10, 100, 10)],
    ],
)
def test_too_few_runs_or_a_length_that_never_varies_is_refused(data: list[tuple[float, float, float]]) -> None:
    assert isinstance(fit_lengths(data), Absent)
