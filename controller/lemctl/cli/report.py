"""`lemctl report`: the figures of a campaign, one row per experiment, the verdict beside every figure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lemctl.cli.options import Campaign, Json, new_app
from lemctl.cli.state import home, open_store
from lemctl.cli.terminal import out, out_json, terminal_width
from lemctl.errors import UsageMistake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lemctl.judge.factors import Factors
    from lemctl.report.document import Report
    from lemctl.store.database import Store

app = new_app("The figures of a campaign.")


@app.command("report")
def report(
    name: Campaign = None,
    format_: Annotated[str, typer.Option("--format", metavar="text|csv|json", help="Form of the report.")] = "text",
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
) -> None:
    """The figures of a campaign, one row per experiment."""
    if format_ not in ("text", "csv", "json"):
        raise UsageMistake(f"--format is text, csv or json, found {format_!r}")
    factors = read_factors({"price_per_kwh": price, "co2e_g_per_kwh": co2e})
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
    """Read and print; `form` is text, csv or json."""
    from lemctl.report.export import csv_report
    from lemctl.report.text import text_report

    with open_store() as store:
        found = read_report(store, name, every=every, include_suspect=include_suspect, factors=factors)
    if form == "json":
        out_json("report", **found.to_json())
    elif form == "csv":
        out(csv_report(found).rstrip("\n"))
    else:
        out(text_report(found, in_depth=every, width=terminal_width()))


def read_report(
    store: Store,
    name: str | None,
    *,
    every: bool = False,
    include_suspect: bool = False,
    factors: Factors | None = None,
) -> Report:
    """The report of a campaign as a value; `every` reads all metrics, in depth."""
    from lemctl.judge.drift import find_drift
    from lemctl.judge.stopping import read_until
    from lemctl.report.cells import cells_of
    from lemctl.report.columns import REPORT_METRICS
    from lemctl.report.comparison import COMPARED, backend_pairs, compare, work_groups
    from lemctl.report.costs import with_costs
    from lemctl.report.document import Report
    from lemctl.store.queries import campaign_document, find_campaign
    from lemctl.store.read_comparison import Selection, measurements
    from lemctl.store.read_results import campaign_results, campaign_surroundings, deep_idle_readings
    from lemctl.store.read_status import faults
    from lemctl.store.works import read_outputs

    connection = store.connection
    campaign = find_campaign(connection, name)
    document, _ = campaign_document(connection, campaign.id)
    results = campaign_results(connection, campaign.id, None if every else REPORT_METRICS)
    rule = read_until(document.get("cycles"))
    until = None if rule is None else rule[1]
    chosen = Selection("campaign", campaign.label, campaign.id)
    measured = measurements(connection, chosen, COMPARED, include_suspect)
    letters, differences = work_groups(measured)
    cells = cells_of(results, REPORT_METRICS, include_suspect=include_suspect, in_depth=every, until=until)
    return Report(
        campaign=campaign,
        preset=document.get("preset"),
        surroundings=campaign_surroundings(connection, campaign.id),
        cells=cells if factors is None else with_costs(cells, factors),
        faults=faults(connection, campaign.id),
        database=str(home().database),
        include_suspect=include_suspect,
        comparisons=compare(backend_pairs(measured), COMPARED, partial(read_outputs, connection)),
        work=letters,
        work_differences=differences,
        factors=factors,
        drift=find_drift(deep_idle_readings(connection, campaign.id)),
    )
