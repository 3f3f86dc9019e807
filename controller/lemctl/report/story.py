"""A report together with the evidence behind it: what the page, the plots and the bundle are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lemctl.report.document import Report
from lemctl.report.evidence import Covariate, Distribution, MeasuredRun
from lemctl.report.traces import Trace


@dataclass(frozen=True)
class Story:
    """A report with the evidence behind it: nothing in it is formatted yet."""

    report: Report
    runs: Sequence[MeasuredRun]
    traces: Sequence[Trace]
    distributions: Sequence[Distribution]
    covariates: Sequence[Covariate]
    #: Of the windows that were measured and then discarded, which gave no figure.
    discarded: Sequence[Trace] = ()
