"""One cell of a report: the repeats of one experiment, taken together.

INVALID results never count: they are attempts that were discarded and measured again. SUSPECT results count only where
the reader asks for them; either way the discarded ones stand beside n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lemctl.judge.autocorrelation import Correlation, estimate_correlation
from lemctl.judge.statistics import Summary, summarise, t_interval
from lemctl.judge.stopping import Until
from lemctl.report.figures import sort_key
from lemctl.report.flags import flagged_cycles
from lemctl.store.read_results import Figure, RunResult

ALL_SUSPECT = "every result is SUSPECT; `--include-suspect` averages them"
NO_RESULT = "no result"


@dataclass(frozen=True)
class CellFigure:
    """A metric over the repeats that count. `half_width` is that of the 95 % t-interval, None below two values.

    `correlation` is that of neighbouring repeats over the whole campaign, for which the interval is widened; None where
    the campaign has too few repeats to tell. `reason` says why there is no mean, or why fewer repeats than n have this
    figure.
    """

    n: int
    mean: float | None
    half_width: float | None
    unit: str
    reason: str | None
    summary: Summary | None = None
    outliers: tuple[int, ...] = ()
    """Cycles that stand out among all runs of the campaign; averaged all the same."""
    correlation: Correlation | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        body: dict[str, Any] = {"n": self.n, "mean": self.mean, "half_width": self.half_width, "unit": self.unit}
        body["reason"] = self.reason
        body["repeat_correlation"] = None if self.correlation is None else self.correlation.rho
        if self.summary is not None:
            bootstrap = self.summary.bootstrap
            body |= {"median": self.summary.median, "sd": self.summary.sd, "cv": self.summary.cv}
            body["outlier_cycles"] = list(self.outliers)
            body["bootstrap"] = None if bootstrap is None else [bootstrap.low, bootstrap.high]
        return body


@dataclass(frozen=True)
class Cell:
    """One experiment of a campaign. `counted` results are averaged; `statuses` counts its runs by status."""

    experiment: str
    backend: str
    model: str
    axes: dict[str, Any]
    planned: int
    saved: int
    """Cycles that adaptation did not need; not among the planned ones."""
    counted: int
    verdicts: dict[str, int]
    invalid: int
    statuses: dict[str, int]
    figures: dict[str, CellFigure] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Runs with a result."""
        return self.statuses.get("Done", 0)

    @property
    def discarded(self) -> int:
        """Results that were not averaged: SUSPECT ones left out, and INVALID attempts."""
        return self.done - self.counted + self.invalid

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        names = ("experiment", "backend", "model", "axes", "planned", "saved", "done", "counted", "discarded")
        body = {name: getattr(self, name) for name in (*names, "verdicts", "invalid", "statuses")}
        return body | {"figures": {name: figure.to_json() for name, figure in self.figures.items()}}


def cells_of(
    results: Sequence[RunResult],
    metrics: Sequence[str],
    *,
    include_suspect: bool,
    in_depth: bool = False,
    until: Until | None = None,
) -> list[Cell]:
    """The cells in the order of their axes, with the metrics named. `until` is the rule of adaptive cycles: it widens
    the intervals, because looking repeatedly makes them too narrow. `in_depth` adds every other metric that a run has,
    and to every figure median, spread and bootstrap interval."""
    grouped: dict[str, list[RunResult]] = {}
    for result in results:
        grouped.setdefault(result.experiment, []).append(result)
    values = _values_by_metric(results, include_suspect)
    correlations = {name: estimate_correlation(list(cells.values())) for name, cells in values.items()}
    cells = [_cell(group, metrics, include_suspect, in_depth, until, correlations) for group in grouped.values()]
    if in_depth:
        cells = _with_outliers(cells, values)
    return sorted(cells, key=lambda cell: [sort_key(value) for value in cell.axes.values()])


def counts(run: RunResult, include_suspect: bool) -> bool:
    """Whether a run's figures are averaged."""
    return run.status == "Done" and (run.verdict == "VALID" or include_suspect)


def _values_by_metric(results: Sequence[RunResult], include_suspect: bool) -> dict[str, dict[str, dict[int, float]]]:
    """metric -> experiment -> cycle -> value, of the runs that count."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for run in results:
        if counts(run, include_suspect):
            for name, figure in run.figures.items():
                if figure.value is not None:
                    values.setdefault(name, {}).setdefault(run.experiment, {})[run.cycle] = figure.value
    return values


def _with_outliers(cells: Sequence[Cell], values: Mapping[str, Mapping[str, Mapping[int, float]]]) -> list[Cell]:
    """The cells with the flags of each metric, judged over all of them together."""
    flags = {
        name: flagged_cycles(
            {(experiment, cycle): value for experiment, cell in of.items() for cycle, value in cell.items()}
        )
        for name, of in values.items()
    }

    def flagged(cell: Cell, name: str, figure: CellFigure) -> CellFigure:
        return replace(figure, outliers=flags.get(name, {}).get(cell.experiment, ()))

    return [
        replace(cell, figures={name: flagged(cell, name, figure) for name, figure in cell.figures.items()})
        for cell in cells
    ]


def _cell(
    runs: list[RunResult],
    metrics: Sequence[str],
    include_suspect: bool,
    in_depth: bool,
    until: Until | None,
    correlations: Mapping[str, Correlation | None],
) -> Cell:
    done = [run for run in runs if run.status == "Done"]
    counted = [run for run in done if counts(run, include_suspect)]
    others = (name for run in done for name in run.figures) if in_depth else ()
    names = dict.fromkeys((*metrics, *others))
    nothing = None if counted else ALL_SUSPECT if done else NO_RESULT
    first, saved = runs[0], sum(run.precise for run in runs)
    widening = 1.0 if until is None else until.widening(len(runs) - saved)
    return Cell(
        experiment=first.experiment,
        backend=first.backend,
        model=first.model,
        axes=first.axes,
        planned=len(runs) - saved,
        saved=saved,
        counted=len(counted),
        verdicts=dict(Counter(run.verdict for run in done if run.verdict)),
        invalid=sum(run.invalid for run in runs),
        statuses=dict(Counter(run.status for run in runs if not run.precise)),
        figures={
            name: _figure(
                [run.figures.get(name) for run in counted], nothing, in_depth, widening, correlations.get(name)
            )
            for name in names
        },
    )


def _figure(
    found: list[Figure | None],
    nothing: str | None,
    in_depth: bool,
    widening: float,
    correlation: Correlation | None,
) -> CellFigure:
    values = [figure.value for figure in found if figure is not None and figure.value is not None]
    reasons = Counter(figure.reason or "absent" for figure in found if figure is not None and figure.value is None)
    reasons.update({"this metric was not stored": sum(figure is None for figure in found)})
    unit = next((figure.unit for figure in found if figure is not None), "")
    reason = nothing or next((reason for reason, count in reasons.most_common(1) if count), None)
    if not values:
        return CellFigure(0, None, None, unit, reason or NO_RESULT)
    if correlation is not None:
        widening *= correlation.widening(len(values))
    interval = t_interval(values, widening=widening)
    return CellFigure(
        n=len(values),
        mean=sum(values) / len(values),
        half_width=None if interval is None else interval.half_width,
        unit=unit,
        reason=reason,
        summary=summarise(values, widening=widening) if in_depth else None,
        correlation=correlation,
    )
