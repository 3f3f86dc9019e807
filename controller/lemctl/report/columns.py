"""The columns of the report's table: one row here adds one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lemctl.report.figures import milliseconds, number


class Column(NamedTuple):
    """A metric as a column. `with_interval` adds the half-width beside the mean. Where a terminal is too narrow, what
    has the highest `leaves` goes first; 0 stays."""

    metric: str
    header: str
    show: Callable[[float | None], str]
    with_interval: bool = False
    leaves: int = 0


COLUMNS: tuple[Column, ...] = (
    Column("tokens_out", "tokens out", number, leaves=2),
    Column("output_tokens_per_s", "tokens/s", number, with_interval=True),
    Column("offered_requests_per_s", "offered req/s", number, leaves=2),
    Column("requests_per_s", "served req/s", number, leaves=2),
    Column("goodput", "goodput req/s", number, leaves=2),
    Column("ttft_p50", "TTFT p50", milliseconds),
    Column("itl_p50", "ITL p50", milliseconds, leaves=1),
    Column("tpot_p50", "TPOT p50", milliseconds, leaves=1),
    Column("e2e_p50", "e2e p50", milliseconds, leaves=3),
    Column("e2e_p90", "e2e p90", milliseconds, leaves=4),
    Column("energy_per_output_token", "J/out token", number, with_interval=True),
)
#: Columns only where another metric is known: what was served stands beside what an open loop offered.
ONLY_WITH = {
    "offered_requests_per_s": "offered_requests_per_s",
    "requests_per_s": "offered_requests_per_s",
    "goodput": "goodput",
}
#: Made from energy and factors, where factors are given.
COST_COLUMNS: tuple[Column, ...] = (
    Column("cost_per_million_output_tokens", "cost/Mtok", number, leaves=5),
    Column("co2e_per_million_output_tokens", "g CO2e/Mtok", number, leaves=5),
)
#: The figures of one run in a list of runs.
RUN_COLUMNS: tuple[Column, ...] = tuple(
    column for column in COLUMNS if column.metric in ("output_tokens_per_s", "ttft_p50", "energy_per_output_token")
)
REPORT_METRICS: tuple[str, ...] = tuple(column.metric for column in COLUMNS)
RUN_METRICS: tuple[str, ...] = tuple(column.metric for column in RUN_COLUMNS)
