"""The plots as Vega-Lite specifications without data. Rows come under the name `rows` (others are named below), with
fixed field names: no word of a campaign file ever becomes a field or an expression.

Whoever draws fills in titles, scales and sizes (`fitted`), so that a screen and a paper show the same plot.
"""

from __future__ import annotations

from typing import Any

import altair as alt

Spec = dict[str, Any]

#: Okabe and Ito's colours, which the colour-blind can tell apart, in an order that also differs in lightness; shapes
#: say the same again. https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A8A8A", "#B8A400")
#: The same, lighter where they would drown in a dark page.
COLOURS_DARK = ("#56A8E8", "#F0B23E", "#2FC29A", "#E39CC4", "#9AD4F5", "#FF8A4C", "#B5B5B5", "#E3D44A")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
STANDINGS = ("front", "not resolved", "dominated")
POWER_COLOUR, TEMPERATURE_COLOUR, CAP_COLOUR, THROTTLE_COLOUR = "#0072B2", "#D55E00", "#E69F00", "#CC3311"


def _rows(name: str = "rows") -> alt.Chart:
    return alt.Chart(alt.NamedData(name=name))


def _series() -> dict[str, Any]:
    colour = alt.Color("series:N", scale=alt.Scale(range=list(COLOURS)), legend=alt.Legend(title=None))
    shape = alt.Shape("series:N", scale=alt.Scale(range=list(SHAPES)), legend=alt.Legend(title=None))
    return {"color": colour, "shape": shape}


def _zoom() -> alt.Parameter:
    return alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]", name="zoom")


_LEGEND = alt.selection_point(fields=["series"], bind="legend", name="legend")


def _finished(chart: alt.LayerChart | alt.VConcatChart, description: str) -> Spec:
    spec: Spec = chart.properties(description=description).to_dict()
    spec.pop("config", None)
    return spec


def by_parameter() -> Spec:
    """A figure by a swept parameter: mean and 95 % interval, a line through what differs in that parameter alone."""
    shown = alt.condition(_LEGEND, alt.value(1.0), alt.value(0.12))
    base = _rows().encode(x=alt.X("x:Q"), color=_series()["color"], opacity=shown)
    lines = base.mark_line(strokeWidth=1.2).encode(y="y:Q", detail="group:N", strokeOpacity=alt.value(0.45))
    bars = base.mark_rule(strokeWidth=1.6).encode(y="low:Q", y2="high:Q")
    points = base.mark_point(filled=True, size=55).encode(
        y=alt.Y("y:Q"), shape=_series()["shape"], tooltip=alt.Tooltip("cell:Q")
    )
    return _finished(
        alt.layer(lines, bars, points).add_params(_LEGEND, _zoom()),
        "A figure by a swept parameter, mean with 95 % interval",
    )


def pareto() -> Spec:
    """Two figures against each other with both intervals; the front is joined by a line."""
    shown = alt.condition(
        "legend",
        alt.Opacity("standing:O", scale=alt.Scale(domain=list(STANDINGS), range=[1, 0.75, 0.28]), legend=None),
        alt.value(0.06),
    )
    base = _rows().encode(color=_series()["color"], opacity=shown)
    front = (
        _rows("front")
        .mark_line(interpolate="linear", strokeDash=[5, 3], strokeWidth=1.6, color="#7a7a7a")
        .encode(x="x:Q", y="y:Q", order="x:Q")
    )
    across = base.mark_rule(strokeWidth=1.3).encode(x="x_low:Q", x2="x_high:Q", y="y:Q")
    along = base.mark_rule(strokeWidth=1.3).encode(x="x:Q", y="y_low:Q", y2="y_high:Q")
    points = base.mark_point(filled=True).encode(
        x=alt.X("x:Q", scale=alt.Scale(zero=False)),
        y=alt.Y("y:Q", scale=alt.Scale(zero=False)),
        shape=_series()["shape"],
        size=alt.Size("standing:O", scale=alt.Scale(domain=list(STANDINGS), range=[110, 55, 40]), legend=None),
        tooltip=alt.Tooltip("cell:Q"),
    )
    return _finished(
        alt.layer(front, across, along, points).add_params(_LEGEND, _zoom()),
        "Two figures against each other, means with 95 % intervals on both axes, and the Pareto front",
    )


def trace() -> Spec:
    """Power and temperature of one GPU through one attempt: phases as bands, throttling as bars, windows tinted.
    Data: `rows` (t, low, high, mean, temp), `phases` (begin, end, middle, phase, label, measured, shade), `marks`
    (begin, end, kind)."""
    zoom = alt.selection_interval(bind="scales", encodings=["x"], zoom="wheel![event.shiftKey]", name="zoom")
    names = (
        _rows("phases")
        .mark_text(baseline="top", fontSize=10, dy=2)
        .encode(x="middle:Q", y=alt.value(0), text="label:N")
    )
    kinds = alt.Scale(domain=["power cap", "thermal or brake"], range=[CAP_COLOUR, THROTTLE_COLOUR])
    marks = (
        _rows("marks")
        .mark_rect(height=6, yOffset=-4)
        .encode(
            x="begin:Q",
            x2="end:Q",
            y=alt.value("height"),
            color=alt.Color("kind:N", scale=kinds, legend=alt.Legend(title=None, orient="top")),
            tooltip=alt.Tooltip("kind:N"),
        )
    )
    band = (
        _rows()
        .mark_area(opacity=0.35, color=POWER_COLOUR, interpolate="step-after")
        .encode(
            x=_time(None, labels=False),
            y=alt.Y("low:Q", title="power in W", scale=alt.Scale(zero=True)),
            y2="high:Q",
        )
    )
    mean = (
        _rows()
        .mark_line(color=POWER_COLOUR, strokeWidth=1.3, interpolate="step-after")
        .encode(x="t:Q", y="mean:Q", tooltip=alt.Tooltip("mean:Q"))
    )
    heat = (
        _rows()
        .mark_line(color=TEMPERATURE_COLOUR, strokeWidth=1.5, interpolate="step-after")
        .encode(
            x=_time("seconds since the attempt began", labels=True),
            y=alt.Y("temp:Q", title="temperature in °C", scale=alt.Scale(zero=False)),
            tooltip=alt.Tooltip("temp:Q"),
        )
    )
    upper = alt.layer(_phases(labels=False), band, mean, marks, names).add_params(zoom)
    lower = alt.layer(_phases(labels=True), heat)
    return _finished(
        alt.vconcat(upper, lower, spacing=6).resolve_scale(x="shared"),
        "Power and temperature through one attempt, with its phases, windows and throttling",
    )


def _time(title: str | None, *, labels: bool, field: str = "t") -> alt.X:
    axis = alt.Axis(labels=labels, ticks=labels, grid=False)
    return alt.X(f"{field}:Q", title=title, axis=axis, scale=alt.Scale(nice=False))


def _phases(*, labels: bool) -> alt.Chart:
    title = "seconds since the attempt began" if labels else None
    return (
        _rows("phases")
        .mark_rect()
        .encode(
            x=_time(title, labels=labels, field="begin"),
            x2="end:Q",
            fill=alt.condition("datum.measured", alt.value(POWER_COLOUR), alt.value("#8a8a8a")),
            opacity=alt.condition("datum.measured", alt.value(0.13), alt.Opacity("shade:Q", scale=None, legend=None)),
            tooltip=alt.Tooltip("phase:N"),
        )
    )


def latency() -> Spec:
    """Distribution functions of a latency: which share of requests took at most so long."""
    shown = alt.condition(_LEGEND, alt.value(0.6), alt.value(0.06))
    lines = (
        _rows()
        .mark_line(point={"size": 14, "filled": True}, strokeWidth=1.4)
        .encode(
            x=alt.X("seconds:Q", scale=alt.Scale(type="log", nice=False, padding=10), title="seconds"),
            y=alt.Y(
                "percent:Q", title="percent of requests that took at most so long", scale=alt.Scale(domain=[0, 100])
            ),
            color=_series()["color"],
            detail="cell:N",
            order="percent:Q",
            opacity=shown,
            tooltip=alt.Tooltip("cell:Q"),
        )
    )
    return _finished(
        alt.layer(lines).add_params(_LEGEND, _zoom()), "Distribution of a latency over requests, by experiment"
    )


def effect() -> Spec:
    """Relative deviations of repeats from their experiment's mean, by a circumstance. Data: `rows`, `fit` (x, y)."""
    shown = alt.condition(_LEGEND, alt.value(0.6), alt.value(0.06))
    points = (
        _rows()
        .mark_point(filled=True, size=26)
        .encode(
            x=alt.X("x:Q", scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", title="deviation from the experiment's mean in %"),
            color=_series()["color"],
            shape=_series()["shape"],
            opacity=shown,
            tooltip=alt.Tooltip("cell:Q"),
        )
    )
    line = _rows("fit").mark_line(color="#7a7a7a", strokeDash=[5, 3]).encode(x="x:Q", y="y:Q")
    return _finished(
        alt.layer(points, line).add_params(_LEGEND, _zoom()),
        "Deviation of repeats from the mean of their experiment, by a circumstance",
    )


def ratios() -> Spec:
    """Comparisons as ratios with intervals, one a line; 1 means no difference."""
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=["better", "worse", "not resolved"], range=[COLOURS[2], COLOURS[5], COLOURS[6]]),
        legend=alt.Legend(title=None, orient="top"),
    )
    base = _rows().encode(y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=320)), color=colour)
    one = alt.Chart(alt.InlineData(values=[{"x": 1}])).mark_rule(strokeDash=[4, 3], color="#7a7a7a").encode(x="x:Q")
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q")
    points = base.mark_point(filled=True, size=60).encode(
        x=alt.X("ratio:Q", scale=alt.Scale(type="log", nice=False)), tooltip=alt.Tooltip("row:Q")
    )
    return _finished(alt.layer(one, bars, points), "Ratios with 95 % intervals")


def fit() -> Spec:
    """Measured against fitted values of the length regression; on the diagonal they agree."""
    diagonal = _rows("diagonal").mark_line(color="#7a7a7a", strokeDash=[5, 3]).encode(x="x:Q", y="y:Q")
    points = (
        _rows()
        .mark_point(filled=True, size=30, opacity=0.6)
        .encode(
            x=alt.X("x:Q", title="fitted J per request"),
            y=alt.Y("y:Q", title="measured J per request"),
            color=_series()["color"],
            shape=_series()["shape"],
            tooltip=alt.Tooltip("cell:Q"),
        )
    )
    return _finished(
        alt.layer(diagonal, points).add_params(_LEGEND, _zoom()), "Energy per request, measured against fitted"
    )


SPECS = {
    "parameter": by_parameter,
    "pareto": pareto,
    "trace": trace,
    "latency": latency,
    "effect": effect,
    "ratios": ratios,
    "fit": fit,
}
