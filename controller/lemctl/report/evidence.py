"""What lies behind the cells of a report: single runs with their circumstances, and what follows from them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lemctl.judge.effects import Effect, find_effect, residuals
from lemctl.judge.measured import Absent
from lemctl.report.cells import counts
from lemctl.store.read_results import RunResult
from lemctl.store.read_traces import MeasuredAttempt

ENERGY, SPEED = "energy_per_output_token", "output_tokens_per_s"


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A run that is averaged, with the attempt that gave its figures."""

    result: RunResult
    attempt: MeasuredAttempt

    def value(self, metric: str) -> float | None:
        """One figure of the run."""
        figure = self.result.figures.get(metric)
        return None if figure is None else figure.value

    @property
    def start_temp_c(self) -> float | None:
        """Mean temperature of its GPUs when the gate opened; None without sensors."""
        temps = (self.attempt.facts.get("gate") or {}).get("temps_c") or {}
        known = [float(temp) for temp in temps.values() if temp is not None]
        return math.fsum(known) / len(known) if known else None


def measured_runs(
    results: Sequence[RunResult], attempts: Sequence[MeasuredAttempt], *, include_suspect: bool
) -> list[MeasuredRun]:
    """The runs that the cells average, in the order in which they were measured."""
    by_run = {result.run: result for result in results if counts(result, include_suspect)}
    given = [attempt for attempt in attempts if attempt.is_result and attempt.run in by_run]
    return [MeasuredRun(by_run[attempt.run], attempt) for attempt in given]


def sources_used(runs: Sequence[MeasuredRun], what: str) -> list[dict[str, Any]]:
    """The distinct sources of a kind, `model` or `dataset`, in the order of the runs; none where none were recorded."""
    found = [(run.attempt.facts.get("sources") or {}).get(what) for run in runs]
    return [source for place, source in enumerate(found) if source and source not in found[:place]]


@dataclass(frozen=True, slots=True)
class Covariate:
    """A circumstance that might move the figure: its values by run, and the slope that was found."""

    name: str
    unit: str
    figure: str
    points: Mapping[str, Sequence[tuple[float, float]]]
    """experiment -> (covariate, relative deviation from the experiment's mean)."""
    effect: Effect | Absent

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, without the points."""
        body: dict[str, Any] = {"name": self.name, "unit": self.unit, "figure": self.figure}
        if isinstance(self.effect, Absent):
            return body | {"absent": self.effect.reason}
        interval = self.effect.interval
        return body | {
            "slope": self.effect.slope,
            "interval": [interval.low, interval.high],
            "repeats": self.effect.repeats,
            "experiments": self.effect.experiments,
            "resolved": self.effect.is_resolved,
        }


def covariates(runs: Sequence[MeasuredRun]) -> list[Covariate]:
    """Start temperature and order: what should not matter, and whether it does."""
    figure = ENERGY if any(run.value(ENERGY) is not None for run in runs) else SPEED
    begun = [datetime.fromisoformat(run.attempt.started_utc) for run in runs]
    hours = {run.result.run: (at - begun[0]).total_seconds() / 3600 for run, at in zip(runs, begun, strict=True)}
    return [
        _covariate(
            "start temperature", "C", figure, runs, lambda run: run.start_temp_c, "no sensor told a temperature"
        ),
        _covariate("hours since the first run", "h", figure, runs, lambda run: hours[run.result.run], "no runs"),
    ]


def _covariate(
    name: str,
    unit: str,
    figure: str,
    runs: Sequence[MeasuredRun],
    read: Callable[[MeasuredRun], float | None],
    without: str,
) -> Covariate:
    groups: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        x, y = read(run), run.value(figure)
        if x is not None and y is not None:
            groups.setdefault(run.result.experiment, []).append((x, y))
    effect = find_effect(groups) if groups else Absent(without)
    return Covariate(name, unit, figure, residuals(groups), effect)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A latency of one experiment: seconds at each percentile, averaged over its runs; `requests` are all runs'."""

    experiment: str
    latency: str
    percent: Sequence[float]
    seconds: Sequence[float]
    requests: int
    runs: int


def distributions(runs: Sequence[MeasuredRun]) -> list[Distribution]:
    """The latencies of every experiment. Percentiles are averaged over runs, so that no run outweighs another."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        for latency, kept in (run.attempt.facts.get("latency") or {}).items():
            grouped.setdefault((run.result.experiment, latency), []).append(kept)
    found = []
    for (experiment, latency), kept in grouped.items():
        percent = kept[0]["percent"]
        same = [one for one in kept if one["percent"] == percent]
        seconds = [math.fsum(values) / len(same) for values in zip(*(one["s"] for one in same), strict=True)]
        found.append(Distribution(experiment, latency, percent, seconds, sum(one["n"] for one in same), len(same)))
    return found
