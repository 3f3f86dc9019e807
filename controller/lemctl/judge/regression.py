"""What prefill and decode cost, from many runs over a grid of lengths: a regression of E_net per request. Pure.

The energy of one request's prefill cannot be told from its decode at 100 ms under continuous batching. Over a grid of
prompt and output lengths it can: E_net = b0 + b1 N_in + b2 N_out + b3 N_in N_out + b4 N_out^2, with the lengths centred
so that the products do not stand for the lengths themselves. Where the grid cannot separate the terms (a variance
inflation factor above 10) the answer is refused, not printed with wide intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lemctl.judge.measured import Absent
from lemctl.judge.statistics import CONFIDENCE, Interval
from lemctl.judge.student import t_quantile

VIF_LIMIT = 10.0
TERMS = ("constant", "N_in", "N_out", "N_in N_out", "N_out^2")


@dataclass(frozen=True, slots=True)
class Term:
    """One coefficient in J per unit of its term (lengths centred), its interval and variance inflation factor."""

    name: str
    coefficient: float
    interval: Interval
    vif: float


@dataclass(frozen=True, slots=True)
class LengthModel:
    """Energy per request at the centre of the grid and how it grows; residual standard deviation in J."""

    terms: tuple[Term, ...]
    centre_in: float
    centre_out: float
    residual_sd_j: float
    runs: int


def fit_lengths(runs: Sequence[tuple[float, float, float]], vif_limit: float = VIF_LIMIT) -> LengthModel | Absent:
    """Fit runs given as (tokens in, tokens out, E_net per request in J). Absent where the grid does not allow it."""
    n = len(runs)
    if n <= len(TERMS):
        return Absent(f"{n} runs cannot carry {len(TERMS)} terms")
    centre_in = math.fsum(run[0] for run in runs) / n
    centre_out = math.fsum(run[1] for run in runs) / n
    lengths = [(tokens_in - centre_in, tokens_out - centre_out) for tokens_in, tokens_out, _ in runs]
    columns = [
        [a for a, _ in lengths],
        [b for _, b in lengths],
        [a * b for a, b in lengths],
        [b * b for _, b in lengths],
    ]
    means = [math.fsum(column) / n for column in columns]
    # Each column is scaled to unit length about its mean: the inverse's diagonal then is the inflation factor itself.
    norms = [math.sqrt(math.fsum((x - mean) ** 2 for x in c)) for c, mean in zip(columns, means, strict=True)]
    if any(norm < 1e-9 for norm in norms):
        return Absent("the grid does not vary every length on its own")
    scaled = [[(x - m) / s for x in c] for c, m, s in zip(columns, means, norms, strict=True)]
    inverse = _invert([[math.fsum(a * b for a, b in zip(p, q, strict=True)) for q in scaled] for p in scaled])
    if inverse is None:
        return Absent("the grid does not tell the terms apart")
    worst = max(range(len(scaled)), key=lambda index: inverse[index][index])
    if inverse[worst][worst] > vif_limit:
        factor = inverse[worst][worst]
        return Absent(f"variance inflation factor {factor:.1f} of {TERMS[worst + 1]} is above {vif_limit:g}")
    return _solve(runs, scaled, means, norms, inverse, (centre_in, centre_out))


def _solve(
    runs: Sequence[tuple[float, float, float]],
    scaled: list[list[float]],
    means: list[float],
    norms: list[float],
    inverse: list[list[float]],
    centres: tuple[float, float],
) -> LengthModel:
    energies = [energy for _, _, energy in runs]
    n, count = len(runs), len(scaled)
    mean = math.fsum(energies) / n
    moments = [math.fsum(x * (e - mean) for x, e in zip(column, energies, strict=True)) for column in scaled]
    weights = [math.fsum(inverse[i][j] * moments[j] for j in range(count)) for i in range(count)]
    residuals = [
        energy - mean - math.fsum(weights[i] * scaled[i][run] for i in range(count))
        for run, energy in enumerate(energies)
    ]
    freedom = n - count - 1
    sd = math.sqrt(math.fsum(r * r for r in residuals) / freedom)
    quantile = t_quantile(0.5 + CONFIDENCE / 2, freedom)
    slopes = [weight / norm for weight, norm in zip(weights, norms, strict=True)]
    errors = [sd * math.sqrt(inverse[i][i]) / norms[i] for i in range(count)]
    shift = [means[i] / norms[i] for i in range(count)]
    spread = math.fsum(shift[i] * inverse[i][j] * shift[j] for i in range(count) for j in range(count))
    constant = mean - math.fsum(slope * m for slope, m in zip(slopes, means, strict=True))

    def term(name: str, coefficient: float, error: float, vif: float) -> Term:
        half = quantile * error
        return Term(name, coefficient, Interval(coefficient - half, coefficient + half), vif)

    terms = [term(TERMS[0], constant, sd * math.sqrt(1 / n + spread), 1.0)]
    terms += [term(TERMS[i + 1], slopes[i], errors[i], inverse[i][i]) for i in range(count)]
    return LengthModel(tuple(terms), *centres, sd, n)


def _invert(matrix: list[list[float]]) -> list[list[float]] | None:
    """Gauss-Jordan with row pivots; None for a matrix that is singular to working precision."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda index: abs(rows[index][column]))
        if abs(rows[pivot][column]) < 1e-12:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for other in range(size):
            if other != column:
                factor = rows[other][column]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[column], strict=True)]
    return [row[size:] for row in rows]
