"""The plots of a campaign as vector graphics for a paper: the page's specifications with the data inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lemctl.errors import PreflightRefused
from lemctl.judge.measured import Absent
from lemctl.report.cells import Cell
from lemctl.report.evidence import ENERGY, SPEED, Covariate
from lemctl.report.figures import axis_names, axis_value
from lemctl.report.page.data import axis_keys, pareto_of
from lemctl.report.story import Story
from lemctl.report.traces import Trace

MISSING = "plots need altair and vl-convert; install them with `pip install 'lemctl[report]'`"
WIDTH, HEIGHT = 420, 260
#: Values that spread over more than this factor are drawn on a logarithmic scale.
LOG_FROM = 12
TITLES = {ENERGY: "J per output token", SPEED: "output tokens/s", "e2e_p50": "e2e p50 in s"}
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 10, "titleFontSize": 11, "titleFontWeight": 500, "gridColor": "#e3e3e3"},
    "legend": {"orient": "top", "labelFontSize": 10, "symbolOpacity": 1},
}
Spec = dict[str, Any]


def write_plots(story: Story, folder: Path) -> list[Path]:
    """Every plot that there is data for, as SVG and PDF. Raises `PreflightRefused` without the packages."""
    try:
        import vl_convert
    except ImportError:
        raise PreflightRefused(MISSING) from None
    written = []
    for name, spec in plots(story):
        text = json.dumps(spec)
        for suffix, content in (
            (".svg", vl_convert.vegalite_to_svg(text).encode()),
            (".pdf", vl_convert.vegalite_to_pdf(text)),
        ):
            path = folder / f"{name}{suffix}"
            path.write_bytes(content)
            written.append(path)
    return written


def plots(story: Story) -> Iterator[tuple[str, Spec]]:
    """(name, specification with its data) of each plot. Raises `PreflightRefused` without altair."""
    try:
        from lemctl.report.plots import specs
    except ImportError:
        raise PreflightRefused(MISSING) from None
    cells = story.report.cells
    for metric, name in ((ENERGY, "energy"), (SPEED, "speed")):
        key = _swept_number(cells)
        known = [cell for cell in cells if cell.figures[metric].mean is not None]
        if key is not None and known:
            yield f"{name}-by-{axis_names([key])[key]}", _parameter(specs.by_parameter(), known, key, metric)
    for metric, is_cost in ((SPEED, False), ("e2e_p50", True)):
        rows = _pareto_rows(cells, metric, is_cost)
        if rows:
            name = "throughput" if metric == SPEED else "latency"
            yield f"pareto-{name}", _pareto(specs.pareto(), rows, metric)
    if story.traces:
        yield "trace", _trace(specs.trace(), story.traces[len(story.traces) // 2])
    one = next((c for c in story.covariates if c.points), None)
    if one is not None:
        yield one.name.replace(" ", "-"), _effect(specs.effect(), one, story)


def _swept_number(cells: Sequence[Cell]) -> str | None:
    """The first swept key of numbers."""
    for key in axis_keys(cells):
        values = {cell.axes.get(key) for cell in cells if not isinstance(cell.axes.get(key), dict | list)}
        if len(values) > 1 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            return key
    return None


def _parameter(spec: Spec, cells: Sequence[Cell], key: str, metric: str) -> Spec:
    rows = []
    for number, cell in enumerate(cells):
        figure = cell.figures[metric]
        mean, half = figure.mean or 0.0, figure.half_width or 0.0
        group = repr([axis_value(value) for name, value in cell.axes.items() if name != key])
        row = {"cell": number, "x": cell.axes[key], "y": mean, "low": mean - half, "high": mean + half}
        rows.append(row | {"series": cell.backend, "group": group})
    encode = {
        "x": {"title": axis_names([key])[key], "scale": _scale([row["x"] for row in rows])},
        "y": {"title": TITLES[metric], "scale": _scale([row[edge] for row in rows for edge in ("y", "low")])},
    }
    return fitted(spec, {"rows": rows}, encode, sorted({cell.backend for cell in cells}))


def _pareto_rows(cells: Sequence[Cell], metric: str, is_cost: bool) -> list[dict[str, Any]]:
    rows = []
    for number, standing in pareto_of(cells, metric, is_cost)["standing"].items():
        row: dict[str, Any] = {"cell": number, "series": cells[number].backend, "standing": standing}
        for axis, name in (("x", ENERGY), ("y", metric)):
            figure = cells[number].figures[name]
            mean, half = figure.mean or 0.0, figure.half_width or 0.0
            row |= {axis: mean, f"{axis}_low": mean - half, f"{axis}_high": mean + half}
        rows.append(row)
    return rows


def _pareto(spec: Spec, rows: list[dict[str, Any]], metric: str) -> Spec:
    front = sorted(({"x": row["x"], "y": row["y"]} for row in rows if row["standing"] == "front"), key=lambda p: p["x"])
    encode = {
        "x": {"title": TITLES[ENERGY], "scale": _scale([row["x"] for row in rows])},
        "y": {"title": TITLES[metric], "scale": _scale([row["y"] for row in rows])},
    }
    return fitted(spec, {"rows": rows, "front": front}, encode, sorted({row["series"] for row in rows}))


def _trace(spec: Spec, trace: Trace) -> Spec:
    rows = [
        {"t": trace.seconds(b.t_ns), "low": b.low_w, "high": b.high_w, "mean": b.mean_w, "temp": b.temp_c}
        for b in trace.buckets
    ]
    end_s = trace.seconds(trace.attempt.end_ns)
    phases = [
        {"begin": begin, "end": end, "middle": (begin + end) / 2, "phase": name, "measured": name == "window"}
        | {"shade": 0.05 if place % 2 else 0.11, "label": name if (end - begin) / end_s > 0.02 * len(name) else ""}
        for place, (name, begin, end) in enumerate(trace.phases)
    ]
    seconds = [*(row["t"] for row in rows), end_s]
    marks = [
        {"begin": seconds[place], "end": seconds[place + 1], "kind": kind}
        for place, bucket in enumerate(trace.buckets)
        for kind, is_on in (("power cap", bucket.is_capped), ("thermal or brake", bucket.is_throttled))
        if is_on
    ]
    highest_w = max((b.high_w for b in trace.buckets if b.high_w is not None), default=1.0)
    encode: dict[str, dict[str, Any]] = {
        "x": {"scale": {"domain": [0, end_s]}},
        "y:low": {"scale": {"domain": [0, 1.12 * highest_w], "nice": False}},
    }
    return fitted(spec, {"rows": rows, "phases": phases, "marks": marks}, encode, [])


def _effect(spec: Spec, one: Covariate, story: Story) -> Spec:
    backends = {cell.experiment: cell.backend for cell in story.report.cells}
    rows = [
        {"cell": 0, "x": x, "y": y * 100, "series": backends[experiment]}
        for experiment, pairs in one.points.items()
        for x, y in pairs
    ]
    xs = [x for pairs in one.points.values() for x, _ in pairs]
    middle = sum(xs) / len(xs)
    fit = [{"x": middle, "y": 0.0}]  # a line of one point draws nothing
    if not isinstance(one.effect, Absent):
        slope = one.effect.slope
        fit = [{"x": x, "y": (x - middle) * slope * 100} for x in (min(xs), max(xs))]
    encode = {"x": {"title": f"{one.name} ({one.unit})"}}
    return fitted(spec, {"rows": rows, "fit": fit}, encode, sorted(set(backends.values())))


def _scale(values: Sequence[float]) -> dict[str, Any]:
    if min(values) > 0 and max(values) / min(values) >= LOG_FROM:
        return {"type": "log", "nice": False, "padding": 10}
    return {"zero": False, "padding": 10}


def fitted(spec: Spec, data: dict[str, Any], encode: dict[str, dict[str, Any]], series: Sequence[str]) -> Spec:
    """The specification with data, titles, scales and sizes, still: nobody zooms on paper."""
    for node in _nodes(spec):
        for channel, definition in node.get("encoding", {}).items():
            if not isinstance(definition, dict) or "field" not in definition:
                continue
            if definition["field"] == "series":
                definition["scale"] = {**definition.get("scale", {}), "domain": list(series)}
                if len(series) < 2:
                    definition["legend"] = None
            wanted = encode.get(f"{channel}:{definition['field']}", encode.get(channel, {}))
            scale = {**(definition.get("scale") or {}), **wanted.get("scale", {})}
            if scale.get("type") == "log":
                scale.pop("zero", None)
            definition |= {**wanted, **({"scale": scale} if scale else {})}
    spec["params"] = [parameter for parameter in spec.get("params", []) if parameter["name"] != "zoom"]
    if "vconcat" in spec:
        for part, share in zip(spec["vconcat"], (0.7, 0.3), strict=True):
            part |= {"width": WIDTH, "height": HEIGHT * share}
    else:
        spec |= {"width": WIDTH, "height": HEIGHT}
    return spec | {"datasets": {**spec.get("datasets", {}), **data}, "config": CONFIG}


def _nodes(spec: Spec) -> Iterator[Spec]:
    yield spec
    for child in (*spec.get("layer", ()), *spec.get("vconcat", ())):
        yield from _nodes(child)
