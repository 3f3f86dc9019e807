"""The regression over lengths as text: a table for each fit, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from lemctl.judge.measured import Absent
from lemctl.judge.regression import Term
from lemctl.lines import plural
from lemctl.report.figures import number
from lemctl.report.lengths import LengthFit
from lemctl.report.table import table


def lengths_text(fits: Sequence[LengthFit]) -> str:
    """All of them; no text where there are none."""
    return "\n\n".join(_text(fit) for fit in fits)


def _text(found: LengthFit) -> str:
    title = f"lengths    E_net of a request of {found.name}: {plural(len(found.points), 'run')}"
    fit = found.fitted
    if isinstance(fit, Absent):
        return f"{title}; not fitted: {fit.reason}"
    centre = f"N_in {number(fit.centre_in)}, N_out {number(fit.centre_out)}"
    title += f"; lengths centred at {centre}, residual {number(fit.residual_sd_j)} J"
    return (
        title
        + "\n"
        + table(["term", "J per unit", "95 % interval", "VIF"], [_row(term) for term in fit.terms], right=range(1, 4))
    )


def _row(term: Term) -> list[str]:
    interval = f"{_signed(term.interval.low)} .. {_signed(term.interval.high)}"
    return [term.name, _signed(term.coefficient), interval, number(term.vif)]


def _signed(value: float) -> str:
    """Four digits whatever the size: coefficients of products are small."""
    return f"{value:.4g}"
