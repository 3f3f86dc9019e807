"""Lines that several views share: a run that ended, the run on a lane, a campaign's end."""

from __future__ import annotations

from datetime import datetime

from lemctl.lines import duration
from lemctl.report.columns import RUN_COLUMNS
from lemctl.report.figures import axes_line
from lemctl.report.status import LaneState
from lemctl.report.table import clipped
from lemctl.store.queries import CampaignRow
from lemctl.store.read_status import RunLine

MESSAGE_WIDTH = 100


def run_name(line: RunLine) -> str:
    """`pytorch batch_size=8, cycle 2`."""
    axes = {key: value for key, value in line.axes.items() if key != "backend"}
    swept = f" {axes_line(axes)}" if axes else ""
    return f"{line.backend}{swept}, cycle {line.cycle}"


def run_ended_line(line: RunLine, number: int, total: int) -> str:
    """`3/8  run 12 (pytorch batch_size=8, cycle 1) VALID in 12.3 s: tokens/s 81.2, TTFT p50 12 ms`."""
    lead = f"{number}/{total}  run {line.run} ({run_name(line)})"
    took = f" in {duration(line.took_s)}" if line.took_s is not None else ""
    if line.status == "Done":
        shown = [(column, line.figures.get(column.metric)) for column in RUN_COLUMNS]
        figures = ", ".join(f"{column.header} {column.show(value)}" for column, value in shown if value is not None)
        return f"{lead} {line.verdict}{took}" + (f": {figures}" if figures else "")
    said = clipped(line.message or "", MESSAGE_WIDTH)
    why = f": {line.fault}: {said}" if line.status == "Failed" else f": {said}" if said else ""
    return f"{lead} {line.status.lower()}{took}{why}"


def lane_line(lane: LaneState) -> str:
    """What a lane does: `run 13 (pytorch batch_size=8, cycle 2): window for 12 s, batches done 14, tokens out 896`."""
    body, line = lane.document, lane.run
    retried = f", attempt {line.attempt}" if line is not None and (line.attempt or 1) > 1 else ""
    name = f" ({run_name(line)}{retried})" if line is not None else ""
    parts = [f"run {body.get('run')}{name}: {body.get('phase')}"]
    if lane.since_s is not None:
        parts[0] += f" for {duration(lane.since_s)}"
    if body.get("phase") in ("warmup", "window"):
        parts.append(f"batches done {body.get('batches') or 0}, tokens out {body.get('tokens_out') or 0}")
    if body.get("waits_for"):
        parts.append(f"waits for {body['waits_for']}")
    return ", ".join(parts)


def campaign_ended_line(campaign: CampaignRow) -> str:
    """How it ended, and the command that shows more."""
    line = f"campaign {campaign.label}: {campaign.status.lower()}, {counts_text(campaign)}"
    if campaign.reason:
        line += f" ({campaign.reason})"
    if campaign.status in ("Paused", "Stopped"):
        return f"{line}; `lemctl campaign resume {campaign.label}` goes on"
    return f"{line}; `lemctl report {campaign.label}` shows the figures"


def counts_text(campaign: CampaignRow) -> str:
    """`3 done, 1 failed`."""
    return ", ".join(f"{count} {status.lower()}" for status, count in campaign.counts.items() if count)


def seconds_since(utc: str | None, now_s: float) -> float | None:
    """Seconds from an ISO 8601 time to `now_s` (Unix time), at least 0; None without a time."""
    if utc is None:
        return None
    return max(0.0, now_s - datetime.fromisoformat(utc).timestamp())
