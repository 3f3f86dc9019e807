"""`campaign list` and `campaign show`: what the database tells, whether a daemon runs or not."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lemctl.cli.options import Campaign, Json
from lemctl.cli.state import open_store, store_if_any
from lemctl.cli.status_left import left_now
from lemctl.cli.terminal import out, out_json, say
from lemctl.lines import duration, plural
from lemctl.report.status import GROUNDS, LeftNow

if TYPE_CHECKING:
    from lemctl.store.queries import CampaignRow


def list_(
    json: Json = False,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 50,
) -> None:
    """All campaigns, newest first."""
    from lemctl.report.table import table
    from lemctl.store.queries import list_campaigns

    with store_if_any() as store:
        campaigns = list_campaigns(store.connection, limit) if store is not None else []
    if json:
        out_json("campaigns", campaigns=[campaign.to_json() for campaign in campaigns])
        return
    if not campaigns:
        say("no campaigns yet; begin with `lemctl campaign start FILE`")
        return
    header = ["campaign", "status", "runs", "done", "failed", "left", "priority", "begun"]
    rows = [
        [
            row.label,
            f"{row.status} after {row.after}" if row.after and row.status == "Waiting" else row.status,
            *(str(count) for count in (row.total, row.counts["Done"], row.counts["Failed"], row.left, row.priority)),
            row.created_utc[:16].replace("T", " "),
        ]
        for row in campaigns
    ]
    out(table(header, rows, right=range(2, 7)))


def show(name: Campaign = None, json: Json = False) -> None:
    """One campaign: its state, its counts, the file it came from."""
    from lemctl.report.table import clipped
    from lemctl.store.queries import campaign_document, find_campaign, line_of_campaigns
    from lemctl.store.read_status import faults

    with open_store() as store:
        campaign = find_campaign(store.connection, name)
        document, source = campaign_document(store.connection, campaign.id)
        failures = faults(store.connection, campaign.id)
        left = left_now(store, campaign, time.time())
        place = _place_in_line(line_of_campaigns(store.connection), campaign)
    if json:
        out_json(
            "campaign",
            campaign=campaign.to_json(),
            place_in_line=place,
            left=None if left is None else asdict(left),
            failures=[failure.to_json() for failure in failures],
            document=document,
            source=source,
        )
        return
    out("\n".join(_facts(campaign, place, left)))
    for failure in failures:
        out(f"failed    {plural(failure.count, 'run')} {failure.fault}: {clipped(failure.message, 100)}")
        out(f"          see `lemctl logs {failure.newest_run}`")
    out()
    out(source.rstrip())


def _place_in_line(line: list[CampaignRow], campaign: CampaignRow) -> int | None:
    """1 for the campaign whose turn it is; None once it has ended."""
    return next((number for number, row in enumerate(line, 1) if row.id == campaign.id), None)


def _facts(campaign: CampaignRow, place: int | None, left: LeftNow | None) -> list[str]:
    counts = ", ".join(f"{count} {status.lower()}" for status, count in campaign.counts.items() if count)
    lines = [
        f"campaign  {campaign.label}: {campaign.status}" + (f" ({campaign.reason})" if campaign.reason else ""),
        f"runs      {campaign.total}: {counts}",
        f"begun     {campaign.created_utc[:19]}Z"
        + (f", ended {campaign.ended_utc[:19]}Z" if campaign.ended_utc else ""),
        f"executor  {campaign.executor}, priority {campaign.priority}"
        + (f", after {campaign.after}" if campaign.after else ""),
    ]
    if place is not None:
        lines.append(f"line      place {place}")
    if left is not None:
        ground = GROUNDS[left.ground]
        lines.append(f"left      about {duration(left.p50_s)}, at most {duration(left.p90_s)} ({ground})")
    return lines
