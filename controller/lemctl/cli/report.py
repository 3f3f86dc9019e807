"""`lemctl report`: the figures of a campaign, one row per experiment, the verdict beside every figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli.long_work import long_work
from lemctl.cli.options import Campaign, Json, new_app
from lemctl.cli.state import home, open_store
from lemctl.cli.terminal import out, out_json, terminal_width
from lemctl.errors import UsageMistake
from lemctl.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lemctl.judge.factors import Factors

app = new_app("The figures of a campaign.")

READING = "reading figures"
FORMS = ("text", "csv", "json", "latex", "markdown", "methods")
SCALES = ("auto", "linear", "log")


@app.command("report")
def report(
    name: Campaign = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="text|csv|json|latex|markdown|methods", help="Form of the report.")
    ] = "text",
    json: Json = False,
    every: Annotated[
        bool, typer.Option("--all", help="Every metric, with median, spread and bootstrap interval.")
    ] = False,
    include_suspect: Annotated[
        bool, typer.Option("--include-suspect", help="Average SUSPECT results too. INVALID ones never are.")
    ] = False,
    price: Annotated[float | None, typer.Option("--price", help="Price of a kWh; default from the settings.")] = None,
    co2e: Annotated[
        float | None, typer.Option("--co2e", help="Grams of CO2e per kWh; default from the settings.")
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write one self-contained HTML file with tables and plots.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where --html writes; default NAME.html.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="FOLDER", help="Write the plots there, as SVG and PDF.")
    ] = None,
    figure: Annotated[
        list[str] | None, typer.Option("--figure", metavar="METRIC", help="With --plots: what to draw. Repeatable.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", metavar="KEY", help="With --plots: by which swept key. Repeatable.")
    ] = None,
    colour: Annotated[
        str | None, typer.Option("--colour", metavar="KEY", help="With --plots: colours by this swept key.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option("--scale", metavar="auto|linear|log", help="With --plots: the scale of --figure.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="METRIC", help="With --plots: energy against this one. Repeatable."),
    ] = None,
) -> None:
    """The figures of a campaign, one row per experiment."""
    if html and plots is not None:
        raise UsageMistake("--html writes one file, --plots a folder: give one of them")
    if output is not None and not html:
        raise UsageMistake("--output goes with --html; the other forms are printed: `lemctl report > FILE`")
    choice = {"figures": figure, "by": by, "colour": colour, "scale": scale, "against": against}
    chosen = {name: value for name, value in choice.items() if value}
    if chosen and plots is None:
        raise UsageMistake("--figure, --by, --colour, --scale and --against go with --plots; the page has them itself")
    if scale not in (None, *SCALES):
        raise UsageMistake(f"--scale is one of {', '.join(SCALES)}; found {scale!r}")
    factors = read_factors({"price_per_kwh": price, "co2e_g_per_kwh": co2e})
    if html:
        write_html(name, output, include_suspect=include_suspect, factors=factors)
        return
    if plots is not None:
        write_plots(name, plots, chosen, include_suspect=include_suspect)
        return
    if format_ not in FORMS:
        raise UsageMistake(f"--format is one of {', '.join(FORMS)}; found {format_!r}")
    if format_ == "methods":
        print_methods(name, include_suspect=include_suspect)
        return
    form = "json" if json else format_
    print_report(name, form=form, every=every, include_suspect=include_suspect, factors=factors)


def read_factors(given: Mapping[str, float | None]) -> Factors | None:
    """What a kWh costs: as given, else as the settings have it; None where nobody said."""
    from lemctl.judge.factors import Factors
    from lemctl.settings import load_settings

    known = load_settings()
    found = {name: getattr(known, name) if value is None else value for name, value in given.items()}
    if any(value is not None and value < 0 for value in found.values()):
        raise UsageMistake("--price and --co2e are at least 0")
    if not any(value is not None for value in found.values()):
        return None
    own = any(value is not None for value in given.values())
    source = "as given to this report" if own else known.factors_source
    return Factors(**found, currency=known.currency, pue=known.pue, source=source)


def print_report(
    name: str | None,
    *,
    form: str = "text",
    every: bool = False,
    include_suspect: bool = False,
    factors: Factors | None = None,
) -> None:
    """Read and print; `form` is one of `FORMS`, methods aside."""
    from lemctl.report.export import csv_report
    from lemctl.report.gather import gather_report
    from lemctl.report.paper import latex_report, markdown_report
    from lemctl.report.text import text_report

    with long_work(READING), open_store() as store:
        found = gather_report(store, name, in_depth=every, include_suspect=include_suspect, factors=factors)
    if form == "json":
        out_json("report", **found.to_json())
    elif form == "csv":
        out(csv_report(found).rstrip("\n"))
    elif form == "latex":
        out(latex_report(found))
    elif form == "markdown":
        out(markdown_report(found))
    else:
        out(text_report(found, in_depth=every, width=terminal_width()))


def write_html(
    name: str | None, output: Path | None, *, include_suspect: bool = False, factors: Factors | None = None
) -> None:
    """Write the page and print its path. Raises `PreflightRefused` without the packages that it needs."""
    from lemctl.report.gather import gather_story
    from lemctl.report.page.build import html_page
    from lemctl.report.page.library import Library

    library = Library(home().drawing)  # begun before anything is read
    with long_work(READING) as tell:
        with open_store() as store:
            story = gather_story(store, name, include_suspect=include_suspect, factors=factors, tell=tell)
        path = output or Path(f"{story.report.campaign.label.replace('#', '-')}.html")
        tell(Step(f"writing {path}"))
        text = html_page(story, library)
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            raise UsageMistake(f"{path} cannot be written: {error.strerror}") from None
    out(str(path))


def write_plots(
    name: str | None, folder: Path, choice: Mapping[str, Any] | None = None, *, include_suspect: bool = False
) -> None:
    """Write every plot that there is data for; `choice` are fields of `PlotChoice`. Raises `PreflightRefused` without
    the packages that it needs."""
    from lemctl.report.gather import gather_story
    from lemctl.report.plots import figures

    with long_work(READING) as tell:
        with open_store() as store:
            story = gather_story(store, name, include_suspect=include_suspect, tell=tell)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            written = figures.write_plots(story, folder, figures.PlotChoice(**(choice or {})), tell)
        except OSError as error:
            raise UsageMistake(f"{folder} cannot be written: {error.strerror}") from None
    for path in written:
        out(str(path))
    if not written:
        out("nothing to plot: no experiment has a figure yet")


def print_methods(name: str | None, *, include_suspect: bool = False) -> None:
    """A paragraph of methods, from what was really set and really ran."""
    from lemctl.report.gather import gather_story
    from lemctl.report.methods import methods_text
    from lemctl.store.queries import campaign_document, campaign_specs

    with open_store() as store:
        story = gather_story(store, name, include_suspect=include_suspect, with_traces=False)
        document, _ = campaign_document(store.connection, story.report.campaign.id)
        specs = campaign_specs(store.connection, story.report.campaign.id)
    out(methods_text(story, document, specs))
