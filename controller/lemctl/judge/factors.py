"""Cost and CO2e: functions of stored energy and of factors given at report time, so that factors can change later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lemctl.judge.energy_metrics import J_PER_KWH
from lemctl.judge.measured import Absent
from lemctl.judge.metric import Value


@dataclass(frozen=True, slots=True)
class Factors:
    """What a kWh means. None where it is not configured; `source` is printed beside every figure made with it."""

    co2e_g_per_kwh: float | None = None
    price_per_kwh: float | None = None
    currency: str = ""
    pue: float = 1.0
    """Power usage effectiveness of the site: energy at the meter over energy at the machine (ISO/IEC 30134-2)."""
    source: str = ""

    def __post_init__(self) -> None:
        if self.pue < 1.0:
            raise ValueError(f"pue is at least 1, got {self.pue}")


@dataclass(frozen=True, slots=True)
class FactorMetric:
    """A figure made at report time from one stored energy in J."""

    name: str
    unit: str
    function: Callable[[Value, Factors], Value | Absent]
    meaning: str


def co2e_g(energy_j: Value, factors: Factors) -> Value | Absent:
    """Grams of CO2 equivalent of an energy in J, at the site's meter."""
    if factors.co2e_g_per_kwh is None:
        return Absent("no carbon factor is configured")
    return _scaled(energy_j, factors.pue * factors.co2e_g_per_kwh / J_PER_KWH, factors.source)


def cost(energy_j: Value, factors: Factors) -> Value | Absent:
    """Price of an energy in J, at the site's meter, in `factors.currency`."""
    if factors.price_per_kwh is None:
        return Absent("no price per kWh is configured")
    return _scaled(energy_j, factors.pue * factors.price_per_kwh / J_PER_KWH, factors.source)


def _scaled(energy_j: Value, factor: float, source: str) -> Value:
    u = None if energy_j.u is None else energy_j.u * factor
    return Value(energy_j.value * factor, u, source or None)


FACTOR_METRICS: dict[str, FactorMetric] = {
    metric.name: metric
    for metric in (
        FactorMetric("co2e", "g", co2e_g, "CO2 equivalent: energy x PUE x grid factor, factors given at report time."),
        FactorMetric("cost", "currency", cost, "Energy x PUE x price per kWh, factors given at report time."),
    )
}
