"""All metrics of an attempt: name -> `Metric`. The documentation of the metrics is made from this registry.

A new metric is a decorated function in the family it belongs to (`energy_metrics`, `speed_metrics`,
`load_metrics`, `hardware_metrics`); what it costs in money and CO2e is in `factors`, applied at report time.
"""

from __future__ import annotations

from collections.abc import Iterable

from lemctl.judge.energy_metrics import ENERGY_METRICS
from lemctl.judge.hardware_metrics import HARDWARE_METRICS
from lemctl.judge.load_metrics import LOAD_METRICS
from lemctl.judge.measured import Absent, Measured
from lemctl.judge.metric import Metric, Value
from lemctl.judge.speed_metrics import SPEED_METRICS

METRICS: dict[str, Metric] = {**ENERGY_METRICS, **SPEED_METRICS, **LOAD_METRICS, **HARDWARE_METRICS}


def evaluate(measured: Measured, names: Iterable[str] | None = None) -> dict[str, Value | Absent]:
    """Every metric (or those named) of one attempt: a value or the reason why there is none.

    Raises KeyError for a name that is not in `METRICS`.
    """
    return {name: METRICS[name].evaluate(measured) for name in (METRICS if names is None else names)}
