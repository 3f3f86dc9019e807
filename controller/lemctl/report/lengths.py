"""What prompts and outputs cost: the regression over lengths, where a campaign varies both of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lemctl.judge.measured import Absent
from lemctl.judge.regression import LengthModel, fit_lengths
from lemctl.report.cells import counts
from lemctl.report.figures import axes_line
from lemctl.store.read_results import RunResult

#: The axes whose grid the regression stands on.
LENGTH_AXES = ("workload.random.input_len", "workload.max_new_tokens")
#: The metrics that it reads.
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
    """The regression of one backend and model, or why there is none. `axes`: what else is swept, with its value."""

    backend: str
    model: str
    axes: dict[str, Any]
    points: Sequence[LengthPoint]
    fitted: LengthModel | Absent

    @property
    def name(self) -> str:
        """`vllm, path:NAME`, with what else is swept."""
        others = {key: value for key, value in self.axes.items() if key not in ("backend", "model")}
        return ", ".join([self.backend, self.model, *([axes_line(others)] if others else [])])

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, without the points."""
        body: dict[str, Any] = {"backend": self.backend, "model": self.model, "axes": self.axes, "name": self.name}
        body["runs"] = len(self.points)
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
    """One fit for each group of runs that differ in both lengths and, their cycle aside, in nothing else."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(json.dumps([result.backend, result.model, _others(result)], sort_keys=True), []).append(
            result
        )
    return [_fit(group, include_suspect) for group in groups.values() if _varies_both(group)]


def _others(result: RunResult) -> dict[str, Any]:
    return {key: value for key, value in result.axes.items() if key not in LENGTH_AXES}


def _varies_both(results: Sequence[RunResult]) -> bool:
    return all(len({result.axes.get(axis) for result in results}) > 1 for axis in LENGTH_AXES)


def _fit(results: Sequence[RunResult], include_suspect: bool) -> LengthFit:
    found = [_point(result) for result in results if counts(result, include_suspect)]
    points = [point for point in found if isinstance(point, LengthPoint)]
    reason = next((point.reason for point in found if isinstance(point, Absent)), None)
    fitted = fit_lengths([(p.tokens_in, p.tokens_out, p.energy_j) for p in points])
    if reason is not None and not points:
        fitted = Absent(f"E_net: {reason}")
    first = results[0]
    return LengthFit(first.backend, first.model, _others(first), points, fitted)


def _point(result: RunResult) -> LengthPoint | Absent:
    figures = [result.figures.get(name) for name in INPUTS]
    values = [figure.value for figure in figures if figure is not None and figure.value is not None]
    if len(values) < len(INPUTS) or not values[2]:
        told = (figure.reason for figure in figures if figure is not None and figure.value is None)
        return Absent(next((reason for reason in told if reason), "not stored"))
    tokens_in, tokens_out, requests, energy_j = values
    return LengthPoint(result.experiment, tokens_in / requests, tokens_out / requests, energy_j)
