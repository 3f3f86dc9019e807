"""`lemctl results list|show` and its siblings: single runs, with everything that was recorded of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from lemctl.cli import results_compare, results_export
from lemctl.cli.options import Json, Where, full_keys, matches, new_app, pairs
from lemctl.cli.state import open_store, store_if_any
from lemctl.cli.terminal import out, out_json, say, terminal_width
from lemctl.engines.backends import BACKENDS
from lemctl.errors import UsageMistake
from lemctl.lines import duration

app = new_app("List, show, export and compare runs.")

VERDICTS = ("VALID", "SUSPECT", "INVALID")
#: With conditions on axes, which SQL does not see, this many runs are looked through.
LOOK_THROUGH = 200_000


@app.command("list")
def list_(
    campaign: Annotated[str | None, typer.Option("--campaign", metavar="NAME", help="Of one campaign.")] = None,
    status: Annotated[str | None, typer.Option(help="Queued, Running, Done, Failed, ...")] = None,
    verdict: Annotated[str | None, typer.Option(help="VALID, SUSPECT or INVALID.")] = None,
    backend: Annotated[str | None, typer.Option(help="Of one backend.")] = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="HASH", help="Of one experiment; a beginning will do.")
    ] = None,
    where: Where = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """Runs, newest first, each with its newest attempt."""
    from lemctl.report.columns import RUN_COLUMNS, RUN_METRICS
    from lemctl.report.figures import ABSENT, axes_line
    from lemctl.report.table import is_too_wide, narrowed, table
    from lemctl.store.queries import RUN_STATUSES, axis_keys, find_campaign
    from lemctl.store.read_status import run_lines

    status = _one_of(RUN_STATUSES, status, "--status")
    verdict = _one_of(VERDICTS, verdict, "--verdict")
    backend = _one_of(tuple(BACKENDS), backend, "--backend")
    conditions = pairs(where, "--where")
    with open_store() if campaign is not None else store_if_any() as store:
        lines = []
        if store is not None:
            campaign_id = None if campaign is None else find_campaign(store.connection, campaign).id
            full_keys(conditions, axis_keys(store.connection, campaign_id), "--where", may_mean_several=True)
            found = run_lines(
                store.connection,
                RUN_METRICS,
                campaign_id=campaign_id,
                status=status,
                verdict=verdict,
                backend=backend,
                experiment=experiment,
                limit=LOOK_THROUGH if conditions else limit,
            )
            lines = [line for line in found if matches(line.axes, line.backend, conditions)][:limit]
    if json:
        out_json("runs", runs=[line.to_json() for line in lines])
        return
    if not lines:
        say("no runs match" if conditions or campaign or status or verdict or backend or experiment else "no runs yet")
        return
    width = terminal_width()
    # On a terminal, what no run has is not worth its room.
    columns = [c for c in RUN_COLUMNS if width is None or any(line.figures.get(c.metric) is not None for line in lines)]
    figures = [column.header for column in columns]
    header = ["run", "campaign", "experiment", "what", "cycle", "status", "took", *figures, "verdict"]
    rows = [
        [
            str(line.run),
            line.campaign,
            line.experiment[:8],
            f"{line.backend} {axes_line({key: value for key, value in line.axes.items() if key != 'backend'})}",
            str(line.cycle),
            line.status,
            duration(line.took_s) if line.took_s is not None else ABSENT,
            *(column.show(line.figures.get(column.metric)) for column in columns),
            line.verdict or line.fault or ABSENT,
        ]
        for line in lines
    ]
    what = header.index("what")
    if is_too_wide(header, rows, what, width):  # the experiment's hash leaves: `results show RUN` has it
        what = header.index("experiment")
        header, *rows = [[*row[:what], *row[what + 1 :]] for row in (header, *rows)]
    right = [place for place, name in enumerate(header) if name in ("run", "cycle", "took", *figures)]
    out(table(header, narrowed(header, rows, what, width), right=right))


@app.command("show")
def show(
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")],
    json: Json = False,
) -> None:
    """Everything that was recorded of one run."""
    from lemctl.report.run import run_text
    from lemctl.report.textplot import WIDTH
    from lemctl.report.traces import even_traces
    from lemctl.store.read_results import run_in_full
    from lemctl.store.read_traces import measured_attempt

    with open_store() as store:
        found = run_in_full(store.connection, run)
        if json:
            out_json("run", **found)
            return
        attempts = {one["id"]: measured_attempt(store.connection, one["id"]) for one in found["attempts"]}
        traces = {place: even_traces(store, one, WIDTH) for place, one in attempts.items() if one is not None}
    out(run_text(found, traces, terminal_width()))


app.command("export")(results_export.export)
app.command("samples")(results_export.samples)
app.command("environment")(results_export.environment)
app.command("bundle")(results_export.bundle)
app.command("schema")(results_export.schema)
app.command("compare")(results_compare.compare)


def _one_of(known: Sequence[str], given: str | None, option: str) -> str | None:
    """A word as it is stored, however it was typed. Raises `UsageMistake`."""
    for word in known:
        if given is None or given.lower() == word.lower():
            return given and word
    raise UsageMistake(f"{option} is one of {', '.join(known)}; found {given!r}")
