"""The report as CSV and JSON, for other programs. Column and key names are stable within a schema version."""

from __future__ import annotations

import csv
import io

from lemctl.report.document import Report


def csv_report(report: Report) -> str:
    """One row per experiment: what it is, counts, then mean, half-width and n of every metric. Absent is an empty
    field; executor `simulate` marks figures that no engine made."""
    keys = list(dict.fromkeys(key for cell in report.cells for key in cell.axes))
    metrics = list(dict.fromkeys(name for cell in report.cells for name in cell.figures))
    counts = ("planned", "done", "counted", "discarded")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    suffixes = ("", "_half_width", "_n")
    lead = ["campaign", "executor", "experiment", "model", "backend", *(f"axis:{key}" for key in keys)]
    writer.writerow(
        [*lead, *counts, "valid", "suspect", "invalid"] + [f"{name}{suffix}" for name in metrics for suffix in suffixes]
    )
    campaign = report.campaign
    for cell in report.cells:
        row: list[object] = [campaign.label, campaign.executor, cell.experiment, cell.model, cell.backend]
        row += [cell.axes.get(key) for key in keys]
        row += [getattr(cell, name) for name in counts]
        row += [cell.verdicts.get("VALID", 0), cell.verdicts.get("SUSPECT", 0), cell.invalid]
        for name in metrics:
            figure = cell.figures.get(name)
            row += [None, None, 0] if figure is None else [figure.mean, figure.half_width, figure.n]
        writer.writerow(row)
    return text.getvalue()
