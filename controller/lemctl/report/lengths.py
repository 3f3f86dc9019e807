"""What prefill and decode cost: the regression over lengths, for every backend and model of a campaign. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lemctl.judge.measured import Absent
from lemctl.judge.regression import LengthModel, fit_lengths
from lemctl.report.cells import counts
from lemctl.store.read_results import RunResult

#: The metrics that the regression reads.
INPUTS = ("tokens_in", "tokens_out", "requests", "energy_net_per_request")


@dataclass(frozen=True, slots=True)
class LengthPoint:
    """A run on the grid of lengths: tokens in and out and E_net in J, all per request."""

    experiment: str
    tokens_in: float
    tokens_out: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class LengthFit:
    """The regression of one backend and model, or why there is none."""

    backend: str
    model: str
    points: Sequence[LengthPoint]
    fitted: LengthModel | Absent

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, without the points."""
        body: dict[str, Any] = {"backend": self.backend, "model": self.model, "runs": len(self.points)}
        if isinstance(self.fitted, Absent):
            return body | {"absent": self.fitted.reason}
        terms = [
            {"term": t.name, "coefficient": t.coefficient, "interval": [t.interval.low, t.interval.high], "vif": t.vif}
            for t in self.fitted.terms
        ]
        centre = {"centre_in": self.fitted.centre_in, "centre_out": self.fitted.centre_out}
        return body | centre | {"residual_sd_j": self.fitted.residual_sd_j, "terms": terms}


def predicted_j(model: LengthModel, tokens_in: float, tokens_out: float) -> float:
    """E_net per request in J that the fit gives for these lengths."""
    a, b = tokens_in - model.centre_in, tokens_out - model.centre_out
    return sum(term.coefficient * value for term, value in zip(model.terms, (1.0, a, b, a * b, b * b), strict=True))


def fit_results(results: Sequence[RunResult], *, include_suspect: bool) -> list[LengthFit]:
    """One fit for every backend and model."""
    groups: dict[tuple[str, str], list[LengthPoint]] = {}
    for result in results:
        if counts(result, include_suspect) and (point := _point(result)) is not None:
            groups.setdefault((result.backend, result.model), []).append(point)
    return [
        LengthFit(backend, model, points, fit_lengths([(p.tokens_in, p.tokens_out, p.energy_j) for p in points]))
        for (backend, model), points in groups.items()
    ]


def _point(result: RunResult) -> LengthPoint | None:
    figures = [result.figures.get(name) for name in INPUTS]
    values = [figure.value for figure in figures if figure is not None and figure.value is not None]
    if len(values) < len(INPUTS) or not values[2]:
        return None
    tokens_in, tokens_out, requests, energy_j = values
    return LengthPoint(result.experiment, tokens_in / requests, tokens_out / requests, energy_j)
