"""The plots of a campaign as vector graphics for a paper: the page's specifications with the page's data inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lemctl.errors import PreflightRefused, UsageMistake
from lemctl.report.evidence import ENERGY, SPEED
from lemctl.report.page.data import AGAINST, page_data
from lemctl.report.plots import rows
from lemctl.report.plots.fitting import Drawing, Spec, fitted
from lemctl.report.plots.rows import Look, Scale
from lemctl.report.story import Story
from lemctl.steps import Step, Tell, unheard

MISSING = "plots need altair and vl-convert; install them with `pip install 'lemctl[report]'`"
#: The names of files, where the figure's own is not the word that people look for.
NAMES = {ENERGY: "energy", SPEED: "speed"}
PARETO_NAMES = {SPEED: "throughput", "e2e_p50": "latency"}


@dataclass(frozen=True)
class PlotChoice:
    """What the page lets a reader choose, by name; empty: what the page shows first.

    `figures` by the swept keys `by`, coloured by `colour` (a swept key, or `backend`); energy `against` other figures.
    """

    figures: Sequence[str] = ()
    by: Sequence[str] = ()
    colour: str | None = None
    scale: Scale = "auto"
    against: Sequence[str] = ()


def write_plots(story: Story, folder: Path, choice: PlotChoice | None = None, tell: Tell = unheard) -> list[Path]:
    """Every plot that there is data for, as SVG and PDF. Raises `PreflightRefused` without the packages, `UsageMistake`
    for a choice that the campaign has not."""
    try:
        import vl_convert
    except ImportError:
        raise PreflightRefused(MISSING) from None
    written = []
    for name, spec in plots(story, choice):
        tell(Step(f"drawing {name}"))
        text = json.dumps(spec)
        for suffix, content in (
            (".svg", vl_convert.vegalite_to_svg(text).encode()),
            (".pdf", vl_convert.vegalite_to_pdf(text)),
        ):
            path = folder / f"{name}{suffix}"
            path.write_bytes(content)
            written.append(path)
    return written


def plots(story: Story, choice: PlotChoice | None = None) -> Iterator[tuple[str, Spec]]:
    """(name, specification with its data) of each plot. Raises as `write_plots`."""
    try:
        from lemctl.report.plots.specs import SPECS
    except ImportError:
        raise PreflightRefused(MISSING) from None
    for name, drawing in drawings(story, choice or PlotChoice()):
        if drawing is not None:
            yield name.replace("/", "-").replace(" ", "-"), fitted(SPECS[drawing.spec](), drawing)


def drawings(story: Story, choice: PlotChoice) -> Iterator[tuple[str, Drawing | None]]:
    """(name, what it shows) of each plot; None where there is nothing to draw. Raises `UsageMistake`."""
    data = page_data(story)
    look = Look(data, None if choice.colour in (None, "backend") else _axis(data, str(choice.colour)), choice.scale)
    shown = [metric["name"] for metric in data["metrics"]]
    axes = [_axis(data, name) for name in choice.by] or _first_axis(data)
    for axis in axes:
        for metric in _known(choice.figures, shown, "figure") or (ENERGY, SPEED):
            name = f"{NAMES.get(metric, metric)}-by-{data['axes'][axis]['name']}"
            yield name, rows.by_parameter(look, metric, axis)
    for metric in _known(choice.against, [metric for metric, _ in AGAINST], "figure to set energy against") or (
        SPEED,
        "e2e_p50",
    ):
        yield f"pareto-{PARETO_NAMES.get(metric, metric)}", rows.pareto(look, metric)
    if story.traces:
        yield "trace", rows.trace(story.traces[len(story.traces) // 2])
    for kind in dict.fromkeys(one["latency"] for one in data["latencies"]):
        yield f"latency-{kind}", rows.latency(look, kind)
    for covariate in data["covariates"]:
        yield covariate["name"], rows.effect(look, covariate)
    yield "length-regression", rows.lengths(look)
    for metric in dict.fromkeys(name for pair in data["backends"] for name in pair["metrics"]):
        yield f"ratio-{NAMES.get(metric, metric)}", rows.ratios(look, metric)


def _axis(data: dict[str, Any], name: str) -> int:
    """The place of a swept key, by its short or its whole name."""
    for place, axis in enumerate(data["axes"]):
        if name in (axis["name"], axis["key"]):
            return place
    swept = ", ".join(axis["name"] for axis in data["axes"]) or "nothing"
    raise UsageMistake(f"this campaign does not sweep {name!r}; it sweeps {swept}")


def _first_axis(data: dict[str, Any]) -> list[int]:
    """The axis that the page shows first: of numbers, if there is one; none where nothing is swept."""
    swept = [place for place, axis in enumerate(data["axes"]) if len(axis["values"]) > 1]
    numeric = [place for place in swept if data["axes"][place]["numeric"]]
    return (numeric or swept)[:1]


def _known(names: Sequence[str], known: Sequence[str], what: str) -> Sequence[str]:
    for name in names:
        if name not in known:
            raise UsageMistake(f"there is no {what} {name!r}; there is {', '.join(known) or 'none'}")
    return names
