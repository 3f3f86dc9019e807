"""`lemctl results export|samples|environment|bundle|schema`: what was recorded, for other programs."""

from __future__ import annotations

import json as json_module
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from lemctl.cli.long_work import long_work
from lemctl.cli.options import Campaign, Json
from lemctl.cli.state import home, open_store
from lemctl.cli.terminal import is_terminal, out, out_json, say
from lemctl.errors import NotFound, UsageMistake
from lemctl.lines import plural
from lemctl.steps import counted, unheard

if TYPE_CHECKING:
    from lemctl.report.fields import Field

Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; default stdout.")]
Form = Annotated[
    str, typer.Option("--format", metavar="csv|json|parquet", help="csv, json (one object a line), or parquet.")
]
Run = Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")]


def export(
    campaign: Campaign = None,
    format_: Form = "csv",
    output: Output = None,
    every: Annotated[bool, typer.Option("--all", help="Every campaign of the database.")] = False,
    samples: Annotated[bool, typer.Option("--samples", help="The raw samples instead of the figures.")] = False,
) -> None:
    """All metrics of all attempts, one row each; or the samples, one row a reading."""
    from lemctl.report.exporting import figure_rows, sample_rows
    from lemctl.report.fields import FIGURES, SAMPLES
    from lemctl.store.queries import find_campaign
    from lemctl.store.read_traces import sampled_attempts

    if every and campaign is not None:
        raise UsageMistake("give a campaign or --all, not both")
    with open_store() as store:
        connection = store.connection
        campaign_id = None if every else find_campaign(connection, campaign).id
        if samples:
            rows = sample_rows(store, sampled_attempts(connection, campaign_id))
            _write("samples", SAMPLES, rows, format_, output)
        else:
            _write("metrics", FIGURES, figure_rows(store, campaign_id), format_, output)


def samples(run: Run, format_: Form = "csv", output: Output = None) -> None:
    """Every reading that was taken while a run's attempts lasted."""
    from lemctl.report.exporting import sample_rows
    from lemctl.report.fields import SAMPLES
    from lemctl.store.read_traces import sampled_attempts

    with open_store() as store:
        attempts = sampled_attempts(store.connection, run=run)
        if not attempts:
            raise NotFound(f"run {run} has no ended attempt; `lemctl results list` shows runs")
        _write("samples", SAMPLES, sample_rows(store, attempts), format_, output)


def environment(run: Run, json: Json = False) -> None:
    """Where a run was measured, with which commits of model and data.

    Host, container and program, as they were recorded with each attempt.
    """
    from lemctl.store.read_results import environments_of, run_in_full

    with open_store() as store:
        found = run_in_full(store.connection, run)
        told = [
            {
                "attempt": attempt["number"],
                "sources": attempt["facts"].get("sources"),
                **environments_of(store.connection, attempt["environment"]),
            }
            for attempt in found["attempts"]
        ]
    if json:
        out_json("environment", run=run, attempts=told)
    else:
        out(json_module.dumps(told, indent=2, ensure_ascii=False))


def bundle(
    campaign: Campaign = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Archive to write; default NAME.zip.")
    ] = None,
    author: Annotated[
        list[str] | None,
        typer.Option("--author", metavar="NAME", help="Who is cited: 'Family, Given' or a name. Repeatable."),
    ] = None,
    samples: Annotated[bool, typer.Option("--samples/--no-samples", help="The raw samples too.")] = True,
    prompts: Annotated[bool, typer.Option("--prompts/--no-prompts", help="The prompts too.")] = True,
    include_suspect: Annotated[
        bool, typer.Option("--include-suspect", help="Average SUSPECT results too. INVALID ones never are.")
    ] = False,
) -> None:
    """A campaign for others to check: database, file, prompts, report, tables, plots, checksums."""
    from lemctl.report.bundle import BundleOptions, pack, write_bundle
    from lemctl.report.citation import read_author
    from lemctl.report.gather import gather_story
    from lemctl.report.page.library import Library

    for one in author or ():
        read_author(one)  # refused before anything is read
    library = Library(home().drawing)
    with long_work("reading figures") as tell, open_store() as store, tempfile.TemporaryDirectory() as folder:
        story = gather_story(store, campaign, include_suspect=include_suspect, tell=tell)
        name = story.report.campaign.label.replace("#", "-")
        archive = output or Path(f"{name}.zip")
        missing = write_bundle(
            store, story, library, Path(folder), BundleOptions(samples, prompts, tuple(author or ())), tell
        )
        with _writable(archive):
            pack(Path(folder), archive, name, tell)
    out(str(archive))
    for line in missing:
        say(f"not in it: {line}")


def schema(
    what: Annotated[str, typer.Argument(metavar="metrics|samples|report", help="What the schema describes.")],
) -> None:
    """JSON Schema of an export, or of `lemctl report --json`."""
    from lemctl.report.fields import FIGURES, SAMPLES, row_schema
    from lemctl.report.report_schema import report_schema

    schemas: dict[str, Callable[[], dict[str, Any]]] = {
        "metrics": lambda: row_schema("metrics", FIGURES),
        "samples": lambda: row_schema("samples", SAMPLES),
        "report": report_schema,
    }
    if what not in schemas:
        raise UsageMistake(f"no schema {what!r}; there are {', '.join(schemas)}")
    out(json_module.dumps(schemas[what](), indent=2, ensure_ascii=False))


def _write(kind: str, fields: tuple[Field, ...], rows: Iterator[list[Any]], format_: str, output: Path | None) -> None:
    from lemctl.report.writing import FORMS, write_csv, write_json, write_parquet

    if format_ not in FORMS:
        raise UsageMistake(f"--format is csv, json or parquet, found {format_!r}")
    if format_ == "parquet" and output is None:
        raise UsageMistake("Parquet is no text: name a file with -o FILE")
    # Rows that scroll over a terminal show by themselves how far it is.
    seen = output is None and is_terminal()
    with nullcontext(unheard) if seen else long_work(f"exporting {kind}") as tell:
        rows = counted(rows, tell, f"exporting {kind}", "rows")
        if format_ == "parquet" and output is not None:
            with _writable(output):
                count = write_parquet(output, fields, rows)
        else:
            with _opened(output) as file:
                count = write_csv(file, fields, rows) if format_ == "csv" else write_json(file, kind, fields, rows)
    if output is not None:
        say(f"{plural(count, 'row')} in {output}")


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with _writable(output), output.open("w", newline="", encoding="utf-8") as file:
        yield file


@contextmanager
def _writable(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageMistake(f"{output} cannot be written: {error.strerror or error}") from None
