"""What the GPUs' energy costs in money and CO2e: made from a report's energies and factors that may change later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lemctl.judge.factors import FACTOR_METRICS, Factors
from lemctl.judge.measured import Absent
from lemctl.judge.metric import Value
from lemctl.report.cells import Cell, CellFigure

SOURCE = "energy_per_output_token"
PER_TOKENS = 1_000_000


def with_costs(cells: Sequence[Cell], factors: Factors) -> list[Cell]:
    """The cells with the figures of every factor that is given, per million output tokens; interval and n are those of
    the energy that they come from."""
    return [replace(cell, figures={**cell.figures, **dict(_figures(cell, factors))}) for cell in cells]


def describe_factors(factors: Factors) -> str:
    """The factors as the report states them."""
    parts = []
    if factors.price_per_kwh is not None:
        parts.append(f"{factors.price_per_kwh:g} {factors.currency}/kWh".replace(" /", " per "))
    if factors.co2e_g_per_kwh is not None:
        parts.append(f"{factors.co2e_g_per_kwh:g} g CO2e/kWh")
    told = ", ".join([*parts, f"PUE {factors.pue:g}"])
    return f"{told}{f' ({factors.source})' if factors.source else ''}; of the GPUs' energy alone"


def _figures(cell: Cell, factors: Factors) -> Iterator[tuple[str, CellFigure]]:
    energy = cell.figures.get(SOURCE)
    if energy is None:
        return
    for name, metric in FACTOR_METRICS.items():
        one = metric.function(Value(1.0), factors)
        if isinstance(one, Absent):
            continue
        scale = one.value * PER_TOKENS
        unit = factors.currency or metric.unit if name == "cost" else metric.unit
        yield (
            f"{name}_per_million_output_tokens",
            replace(
                energy,
                mean=None if energy.mean is None else energy.mean * scale,
                half_width=None if energy.half_width is None else energy.half_width * scale,
                unit=f"{unit}/million output tokens",
                summary=None,
            ),
        )
