"""What the page draws from, as plain JSON types. Every figure is that of the cells; nothing is computed anew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lemctl.judge.measured import Absent
from lemctl.report.cells import Cell
from lemctl.report.columns import COLUMNS
from lemctl.report.comparison import Pair
from lemctl.report.document import absent_reasons
from lemctl.report.evidence import ENERGY, SPEED, Covariate, Distribution, MeasuredRun
from lemctl.report.figures import axes_line, axis_names, axis_value
from lemctl.report.lengths import LengthFit, predicted_j
from lemctl.report.pareto import Point, standings
from lemctl.report.story import Story
from lemctl.report.traces import Trace

#: What throughput and latency are set against energy with: metric, and whether less is better.
AGAINST: tuple[tuple[str, bool], ...] = (
    (SPEED, False),
    ("e2e_p50", True),
    ("e2e_p90", True),
    ("ttft_p50", True),
    ("itl_p50", True),
    ("tpot_p50", True),
)
_DIGITS = 9


def page_data(story: Story) -> dict[str, Any]:
    """The document; traces apart (`trace_rows`), because they are most of it and seldom looked at all."""
    cells = story.report.cells
    keys = axis_keys(cells)
    names = axis_names(keys)
    metrics = shown_metrics(cells)
    place = {cell.experiment: number for number, cell in enumerate(cells)}
    return {
        "label": story.report.campaign.label,
        "simulated": story.report.is_simulated,
        "axes": [_axis(key, names[key], cells) for key in keys],
        "metrics": [_metric(name, cells) for name in metrics],
        "main": [metrics.index(name) for name in _main(metrics)],
        "cells": [_cell(cell, keys, metrics, story.report.work) for cell in cells],
        "pareto": [pareto_of(cells, metric, is_cost) for metric, is_cost in AGAINST if metric in metrics],
        "runs": [_run(run, place) for run in story.runs],
        "latencies": [_distribution(one, place) for one in story.distributions],
        "covariates": [one.to_json() | {"points": _points(one, place)} for one in story.covariates],
        "lengths": [one.to_json() | {"points": _fitted(one, place)} for one in story.report.lengths],
        "backends": [_pair(pair, place) for pair in story.report.comparisons],
        "absent": absent_reasons(cells),
    }


def _main(metrics: Sequence[str]) -> list[str]:
    """The columns of the table: those of the text report, what most readers look for first."""
    named = dict.fromkeys((ENERGY, SPEED, *(column.metric for column in COLUMNS)))
    return [name for name in named if name in metrics]


def axis_keys(cells: Iterable[Cell]) -> list[str]:
    """The swept keys, in the order of the campaign."""
    return list(dict.fromkeys(key for cell in cells for key in cell.axes))


def shown_metrics(cells: Sequence[Cell]) -> list[str]:
    """The metrics that some cell has a figure of: the report's own first."""
    named = dict.fromkeys(column.metric for column in COLUMNS)
    every = named | dict.fromkeys(name for cell in cells for name in cell.figures)
    known = {name for cell in cells for name, figure in cell.figures.items() if figure.mean is not None}
    return [name for name in every if name in known]


def rounded(value: float | None) -> float | None:
    """Nine digits: more than any sensor has, half as long on the page."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _axis(key: str, name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    found = {axis_value(cell.axes.get(key)): cell.axes.get(key) for cell in cells}
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in found.values())
    ordered = sorted(found, key=float) if are_numbers else list(found)
    return {"key": key, "name": name, "numeric": are_numbers, "values": ordered}


def _metric(name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    unit = next((cell.figures[name].unit for cell in cells if name in cell.figures and cell.figures[name].unit), "")
    header = next((column.header for column in COLUMNS if column.metric == name), name.replace("_", " "))
    return {"name": name, "unit": unit, "header": header}


def _cell(cell: Cell, keys: Sequence[str], metrics: Sequence[str], work: Mapping[str, str]) -> dict[str, Any]:
    figures: dict[int, list[float | None]] = {}
    for number, name in enumerate(metrics):
        figure = cell.figures.get(name)
        if figure is not None and figure.mean is not None:
            figures[number] = [figure.n, rounded(figure.mean), rounded(figure.half_width)]
    return {
        "experiment": cell.experiment,
        "backend": cell.backend,
        "model": cell.model,
        "axes": [axis_value(cell.axes.get(key)) for key in keys],
        "ok": cell.counted,
        "planned": cell.planned,
        "valid": cell.verdicts.get("VALID", 0),
        "suspect": cell.verdicts.get("SUSPECT", 0),
        "invalid": cell.invalid,
        "failed": cell.statuses.get("Failed", 0),
        "work": work.get(cell.experiment),
        "figures": figures,
    }


def pareto_of(cells: Sequence[Cell], metric: str, is_cost: bool) -> dict[str, Any]:
    """How every experiment stands in energy per output token against one figure; only those that have both."""
    known = []
    for number, cell in enumerate(cells):
        x, y = cell.figures.get(ENERGY), cell.figures.get(metric)
        if x is not None and y is not None and x.mean is not None and y.mean is not None:
            halves = [math.inf if figure.half_width is None else figure.half_width for figure in (x, y)]
            known.append((number, Point(x.mean, y.mean, *halves)))
    found = standings([point for _, point in known], x_is_cost=True, y_is_cost=is_cost)
    standing = {number: how for (number, _), how in zip(known, found, strict=True)}
    return {"metric": metric, "less_is_better": is_cost, "standing": standing}


def _run(run: MeasuredRun, place: Mapping[str, int]) -> list[Any]:
    """[run, cell, cycle, attempt, verdict, energy per output token, tokens/s, start temperature]."""
    result = run.result
    figures = [rounded(run.value(ENERGY)), rounded(run.value(SPEED)), rounded(run.start_temp_c)]
    return [result.run, place[result.experiment], result.cycle, run.attempt.attempt, result.verdict, *figures]


def _distribution(one: Distribution, place: Mapping[str, int]) -> dict[str, Any]:
    seconds = [float(f"{value:.5g}") for value in one.seconds]
    body = {"cell": place[one.experiment], "latency": one.latency, "percent": list(one.percent), "seconds": seconds}
    return body | {"requests": one.requests, "runs": one.runs}


def _points(one: Covariate, place: Mapping[str, int]) -> list[list[float]]:
    return [
        [place[experiment], float(f"{x:.6g}"), float(f"{y:.5g}")]
        for experiment, pairs in one.points.items()
        for x, y in pairs
    ]


def _fitted(one: LengthFit, place: Mapping[str, int]) -> list[list[float | None]]:
    fitted = one.fitted
    if isinstance(fitted, Absent):
        return []
    return [
        [place[p.experiment], rounded(predicted_j(fitted, p.tokens_in, p.tokens_out)), rounded(p.energy_j)]
        for p in one.points
    ]


def _pair(pair: Pair, place: Mapping[str, int]) -> dict[str, Any]:
    found = pair.to_json()
    texts = found["texts"]
    return {
        "first": pair.first.name,
        "second": pair.second.name,
        "setting": axes_line(pair.setting),
        "cells": [place[pair.first.experiment], place[pair.second.experiment]],
        "differences": found["differences"],
        "texts": None if texts is None else f"{texts['agreed']} of {texts['compared']} texts equal",
        "metrics": found["metrics"],
    }


def trace_rows(story: Story, place: Mapping[str, int]) -> list[dict[str, Any]]:
    """One object a trace in the order in which they ran, those of discarded windows among them; times in tenths of a
    second since the attempt began, powers in tenths of a watt."""
    ordered = sorted([*story.traces, *story.discarded], key=lambda trace: trace.attempt.attempt)
    return [_trace(trace, place) for trace in ordered]


def _trace(trace: Trace, place: Mapping[str, int]) -> dict[str, Any]:
    def tenths(value: float | None) -> int | None:
        return None if value is None else round(value * 10)

    attempt, buckets = trace.attempt, trace.buckets
    body: dict[str, Any] = {
        "attempt": attempt.attempt,
        "run": attempt.run,
        "number": attempt.number,
        "cell": place[attempt.experiment],
        "cycle": attempt.cycle,
        "outcome": attempt.outcome,
        "verdict": attempt.verdict,
        "why": attempt.why,
        "gpu": trace.gpu,
        "t": [tenths(trace.seconds(bucket.t_ns)) for bucket in buckets],
        "low": [tenths(bucket.low_w) for bucket in buckets],
        "mean": [tenths(bucket.mean_w) for bucket in buckets],
        "high": [tenths(bucket.high_w) for bucket in buckets],
        "temp": [bucket.temp_c for bucket in buckets],
        "end": tenths(trace.seconds(attempt.end_ns)),
        "phases": [[name, tenths(begin), tenths(end)] for name, begin, end in trace.phases],
        "windows": [[tenths(begin), tenths(end)] for begin, end in trace.windows],
    }
    capped = [number for number, bucket in enumerate(buckets) if bucket.is_capped]
    throttled = [number for number, bucket in enumerate(buckets) if bucket.is_throttled]
    return body | ({"capped": capped} if capped else {}) | ({"throttled": throttled} if throttled else {})
