"""What a kWh costs is said at report time, and can be said anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_writing import report

from lemctl.judge.factors import Factors
from lemctl.report.costs import with_costs
from lemctl.report.text import text_report

COST, CO2E = "cost_per_million_output_tokens", "co2e_per_million_output_tokens"
FACTORS = Factors(co2e_g_per_kwh=360.0, price_per_kwh=0.36, currency="EUR", pue=1.5, source="grid 2025")


def test_cost_and_co2e_follow_from_energy_and_factors() -> None:
    (cell,) = with_costs(report(energy=True).cells, FACTORS)
    # 0.4 J a token: a million are 0.4 MJ = 1/9 kWh, times 1.5 at the meter.
    assert cell.figures[COST].mean == pytest.approx(0.36 * 1.5 / 9)
    assert cell.figures[COST].unit == "EUR/million output tokens"
    assert cell.figures[CO2E].mean == pytest.approx(360.0 * 1.5 / 9)
    assert cell.figures[CO2E].n == cell.figures["energy_per_output_token"].n


def test_the_report_shows_them_with_their_source_and_other_factors_give_other_figures() -> None:
    plain = report(energy=True)
    told = replace(plain, cells=with_costs(plain.cells, FACTORS), factors=FACTORS)
    text = text_report(told)
    assert "cost/Mtok" in text
    assert "0.36 EUR/kWh, 360 g CO2e/kWh, PUE 1.5 (grid 2025); of the GPUs' energy alone" in text
    assert told.to_json()["factors"]["currency"] == "EUR"
    (dearer,) = with_costs(plain.cells, replace(FACTORS, price_per_kwh=0.72))
    assert dearer.figures[COST].mean == pytest.approx(2 * told.cells[0].figures[COST].mean)  # type: ignore[operator]


def test_without_a_factor_there_is_no_figure_and_without_energy_none_either() -> None:
    (cell,) = with_costs(report(energy=True).cells, Factors(price_per_kwh=0.3))
    assert COST in cell.figures
    assert CO2E not in cell.figures
    (unknown,) = with_costs(report(energy=False).cells, FACTORS)
    assert unknown.figures[COST].mean is None
    assert unknown.figures[COST].reason == "no GPU"
    assert "cost/Mtok" not in text_report(report(energy=True))
