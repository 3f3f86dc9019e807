"""What each plot on paper is drawn from: the page's own data (`page.data.page_data`), with the page's choices. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lemctl.report.evidence import ENERGY, SPEED
from lemctl.report.plots.fitting import ROW_HEIGHT, Drawing, Row, scale, spreads
from lemctl.report.traces import Trace

Scale = Literal["auto", "linear", "log"]
Data = Mapping[str, Any]
#: Words for paper, where the page's columns have to be short.
TITLES = {ENERGY: "J per output token", SPEED: "output tokens/s", "e2e_p50": "e2e p50 in s"}
#: How many ratios are drawn: those that differ most; the page has the same limit, the tables have all.
MOST_RATIOS = 40


@dataclass(frozen=True)
class Look:
    """What the page lets a reader choose. `colour` None: the backend; else the place of an axis."""

    data: Data
    colour: int | None = None
    scale: Scale = "auto"

    def series_of(self, cell: int) -> str:
        """The series that an experiment belongs to."""
        found = self.data["cells"][cell]
        return str(found["backend"] if self.colour is None else found["axes"][self.colour])

    @property
    def series(self) -> list[str]:
        """Every series, in the order in which colours are given out."""
        if self.colour is not None:
            return [str(value) for value in self.data["axes"][self.colour]["values"]]
        return sorted({cell["backend"] for cell in self.data["cells"]})

    def metric(self, name: str) -> int | None:
        """The place of a figure that some experiment has, None where none has it."""
        return next((place for place, found in enumerate(self.data["metrics"]) if found["name"] == name), None)

    def title(self, name: str) -> str:
        """What stands beside the axis of a figure."""
        if name in TITLES:
            return TITLES[name]
        found = next((one for one in self.data["metrics"] if one["name"] == name), None)
        if found is None:
            return name
        header, unit = found["header"], found["unit"]
        return header if "/" in header or unit in ("", "1") else f"{header} ({unit})"

    def figure(self, cell: int, metric: int) -> tuple[float, float | None] | None:
        """(mean, half-width of its interval) of an experiment."""
        found = self.data["cells"][cell]["figures"].get(metric)
        return None if found is None else (found[1], found[2])


def by_parameter(look: Look, metric: str, axis: int) -> Drawing | None:
    """A figure by a swept parameter; a line joins what differs in that parameter alone."""
    place = look.metric(metric)
    rows = [] if place is None else [row for cell in _cells(look) if (row := _by(look, cell, place, axis)) is not None]
    if not rows:
        return None
    found = look.data["axes"][axis]
    means = [row["y"] for row in rows]
    is_log = min(means) > 0 and (look.scale == "log" or (look.scale == "auto" and spreads(means)))
    if is_log:  # an interval that reaches below zero ends at the plot's edge
        rows = [row | {"low": row["low"] if row["low"] > 0 else min(means) / 3} for row in rows]
    x: Row = {"title": found["name"]}
    if found["numeric"]:
        x["scale"] = scale([row["x"] for row in rows])
    else:
        x |= {"type": "nominal", "sort": found["values"], "scale": {"type": "point"}}
    y = {"type": "log", "nice": False, "padding": 10} if is_log else {"zero": False, "padding": 10}
    encode = {"x": x, "y": {"title": look.title(metric), "scale": y}}
    return Drawing("parameter", {"rows": rows}, encode, look.series)


def _by(look: Look, cell: int, metric: int, axis: int) -> Row | None:
    figure = look.figure(cell, metric)
    axes = look.data["cells"][cell]["axes"]
    if figure is None:
        return None
    x = float(axes[axis]) if look.data["axes"][axis]["numeric"] else axes[axis]
    group = repr([value for place, value in enumerate(axes) if place != axis])
    return {
        "cell": cell,
        "x": x,
        **_interval("y", figure, "low", "high"),
        "series": look.series_of(cell),
        "group": group,
    }


def pareto(look: Look, metric: str) -> Drawing | None:
    """Energy against one figure, with both intervals and the front."""
    energy, other = look.metric(ENERGY), look.metric(metric)
    chosen = next((one for one in look.data["pareto"] if one["metric"] == metric), None)
    if chosen is None or energy is None or other is None or not chosen["standing"]:
        return None
    rows = []
    for cell, standing in chosen["standing"].items():
        x, y = look.figure(cell, energy), look.figure(cell, other)
        assert x is not None
        assert y is not None
        row = {"cell": cell, "series": look.series_of(cell), "standing": standing}
        rows.append(row | _interval("x", x, "x_low", "x_high") | _interval("y", y, "y_low", "y_high"))
    front = sorted(({"x": row["x"], "y": row["y"]} for row in rows if row["standing"] == "front"), key=lambda p: p["x"])
    encode = {
        axis: {"title": look.title(name), "scale": _both(rows, axis)} for axis, name in (("x", ENERGY), ("y", metric))
    }
    return Drawing("pareto", {"rows": rows, "front": front}, encode, look.series)


def latency(look: Look, kind: str) -> Drawing | None:
    """Which share of requests took at most so long, one line an experiment."""
    found = [one for one in look.data["latencies"] if one["latency"] == kind]
    rows = [
        {"cell": one["cell"], "percent": percent, "seconds": max(seconds, 1e-6), "series": look.series_of(one["cell"])}
        for one in found
        for percent, seconds in zip(one["percent"], one["seconds"], strict=True)
    ]
    return Drawing("latency", {"rows": rows}, {"x": {"title": f"{kind} in s"}}, look.series) if rows else None


def effect(look: Look, covariate: Mapping[str, Any]) -> Drawing | None:
    """Repeats against the mean of their experiment, by a circumstance, with the slope that was found."""
    points = covariate["points"]
    if not points:
        return None
    rows = [{"cell": cell, "x": x, "y": y * 100, "series": look.series_of(cell)} for cell, x, y in points]
    xs = [x for _, x, _ in points]
    middle = math.fsum(xs) / len(xs)
    fit = [{"x": middle, "y": 0.0}]  # a line of one point draws nothing
    if "slope" in covariate:
        fit = [{"x": x, "y": (x - middle) * covariate["slope"] * 100} for x in (min(xs), max(xs))]
    encode = {"x": {"title": f"{covariate['name']} ({covariate['unit']})"}}
    return Drawing("effect", {"rows": rows, "fit": fit}, encode, look.series)


def lengths(look: Look) -> Drawing | None:
    """E_net per request, measured against what the regression over lengths gives; they agree on the diagonal."""
    fits = [one for one in look.data["lengths"] if "absent" not in one]
    rows = [{"cell": c, "x": x, "y": y, "series": look.series_of(c)} for one in fits for c, x, y in one["points"]]
    if not rows:
        return None
    values = [row[axis] for row in rows for axis in ("x", "y")]
    diagonal = [{"x": edge, "y": edge} for edge in (min(values), max(values))]
    return Drawing("fit", {"rows": rows, "diagonal": diagonal}, {}, look.series)


def ratios(look: Look, metric: str) -> Drawing | None:
    """Backend against backend with 95 % intervals, where the work was the same; those that differ most come first."""
    found = [(pair, pair["metrics"][metric]) for pair in look.data["backends"] if metric in pair["metrics"]]
    known = [(pair, one) for pair, one in found if one["ratio"] is not None and one["interval"] is not None]
    if not known:
        return None
    known.sort(key=lambda each: -abs(math.log(each[1]["ratio"])))
    names = list(dict.fromkeys(f"{pair['second']} / {pair['first']}" for pair, _ in known))
    rows = [
        {
            "label": pair["setting"] if len(names) == 1 else f"{pair['second']} / {pair['first']}, {pair['setting']}",
            "ratio": one["ratio"],
            "low": one["interval"][0],
            "high": one["interval"][1],
            "verdict": one["verdict"],
        }
        for pair, one in known[:MOST_RATIOS]
    ]
    title = f"ratio of {look.title(metric)}, {names[0] if len(names) == 1 else 'second / first'}"
    x: Row = {"title": title, "scale": {"type": "log", "nice": False, "padding": 12}}
    encode: dict[str, Row] = {"x:ratio": x, "x:low": x, "y": {"sort": [row["label"] for row in rows]}}
    return Drawing("ratios", {"rows": rows}, encode, (), 70 + ROW_HEIGHT * len(rows))


def trace(found: Trace) -> Drawing:
    """Power and temperature of one GPU through one attempt, with phases, windows and throttling."""
    rows = [
        {"t": found.seconds(b.t_ns), "low": b.low_w, "high": b.high_w, "mean": b.mean_w, "temp": b.temp_c}
        for b in found.buckets
    ]
    end_s = found.seconds(found.attempt.end_ns)
    phases = [
        {"begin": begin, "end": end, "middle": (begin + end) / 2, "phase": name, "measured": name == "window"}
        | {"shade": 0.05 if place % 2 else 0.11, "label": name if (end - begin) / end_s > 0.02 * len(name) else ""}
        for place, (name, begin, end) in enumerate(found.phases)
    ]
    seconds = [*(row["t"] for row in rows), end_s]
    marks = [
        {"begin": seconds[place], "end": seconds[place + 1], "kind": kind}
        for place, bucket in enumerate(found.buckets)
        for kind, is_on in (("power cap", bucket.is_capped), ("thermal or brake", bucket.is_throttled))
        if is_on
    ]
    highest_w = max((b.high_w for b in found.buckets if b.high_w is not None), default=1.0)
    encode: dict[str, dict[str, Any]] = {
        "x": {"scale": {"domain": [0, end_s]}},
        "y:low": {"scale": {"domain": [0, 1.12 * highest_w], "nice": False}},
    }
    return Drawing("trace", {"rows": rows, "phases": phases, "marks": marks}, encode)


def _cells(look: Look) -> range:
    return range(len(look.data["cells"]))


def _interval(axis: str, figure: tuple[float, float | None], low: str, high: str) -> Row:
    mean, half = figure[0], figure[1] or 0.0
    return {axis: mean, low: mean - half, high: mean + half}


def _both(rows: Sequence[Row], axis: str) -> dict[str, Any]:
    """Logarithmic only where every interval has room on it."""
    means = [row[axis] for row in rows]
    if spreads(means) and min(row[f"{axis}_low"] for row in rows) <= 0:
        return {"zero": False, "padding": 10}
    return scale(means)
