"""A plot's specification made whole for paper: data, titles, scales and sizes; still, for nobody zooms there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH, HEIGHT = 420, 260
#: Height of what has a line for each row, in pixels.
ROW_HEIGHT = 20
#: Values that spread over at least this factor are drawn on a logarithmic scale; the page's scripts have the same.
LOG_FROM = 12
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 10, "titleFontSize": 11, "titleFontWeight": 500, "gridColor": "#e3e3e3"},
    "legend": {"orient": "top", "labelFontSize": 10, "symbolOpacity": 1},
}
Spec = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """What a plot shows. `spec` names one of `specs.SPECS`; `encode` has titles and scales by channel, or by
    `channel:field` where only that field is meant."""

    spec: str
    data: Mapping[str, Sequence[Row]]
    encode: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    series: Sequence[str] = ()
    height: int = HEIGHT


def spreads(values: Sequence[float]) -> bool:
    """Whether values are drawn on a logarithmic scale where nobody says otherwise."""
    return min(values) > 0 and max(values) / min(values) >= LOG_FROM


def scale(values: Sequence[float]) -> dict[str, Any]:
    """The scale for these values, whose zero is not of interest."""
    if spreads(values):
        return {"type": "log", "nice": False, "padding": 10}
    return {"zero": False, "padding": 10}


def fitted(spec: Spec, drawing: Drawing) -> Spec:
    """The specification with the drawing's data, titles, scales and size."""
    for node in _nodes(spec):
        for channel, definition in node.get("encoding", {}).items():
            if isinstance(definition, dict) and "field" in definition:
                _fit(channel, definition, drawing)
    spec["params"] = [parameter for parameter in spec.get("params", []) if parameter["name"] != "zoom"]
    if "vconcat" in spec:
        for part, share in zip(spec["vconcat"], (0.7, 0.3), strict=True):
            part |= {"width": WIDTH, "height": drawing.height * share}
    else:
        spec |= {"width": WIDTH, "height": drawing.height}
    return spec | {"datasets": {**spec.get("datasets", {}), **drawing.data}, "config": CONFIG}


def _fit(channel: str, definition: dict[str, Any], drawing: Drawing) -> None:
    if definition["field"] == "series":
        definition["scale"] = {**definition.get("scale", {}), "domain": list(drawing.series)}
        if len(drawing.series) < 2:
            definition["legend"] = None
    wanted = drawing.encode.get(f"{channel}:{definition['field']}", drawing.encode.get(channel, {}))
    whole = {**(definition.get("scale") or {}), **wanted.get("scale", {})}
    if whole.get("type") == "log":
        whole.pop("zero", None)
    definition |= {**wanted, **({"scale": whole} if whole else {})}


def _nodes(spec: Spec) -> Iterator[Spec]:
    yield spec
    for child in (*spec.get("layer", ()), *spec.get("vconcat", ())):
        yield from _nodes(child)
