"""What waits for its turn or its hour: the queued runs of a campaign, and the campaigns that are paused for a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lemctl.clock import Clock, Deadline, utc_text
from lemctl.store.campaigns import Campaign, by_id
from lemctl.store.status import CampaignPaused, Queued


@dataclass(frozen=True)
class QueuedRun:
    """A run that may start: everything that an attempt needs to know of it."""

    id: int
    campaign: Campaign
    experiment: str
    cycle: int
    position: int
    spec: dict[str, Any]
    model: str = ""
    guess_s: float | None = None


def next_run(
    tx: sqlite3.Connection, campaign: Campaign, clock: Clock, without: Collection[str] = ()
) -> QueuedRun | None:
    """The queued run that comes first, unless it must wait for its retry or its experiment is to be left out: then the
    next one."""
    row = tx.execute(
        "SELECT r.id, r.experiment, r.cycle, r.position, r.guess_s, e.model, e.spec"
        " FROM runs r JOIN experiments e ON e.hash = r.experiment"
        " WHERE r.campaign_id = ? AND r.status = 'Queued' AND (r.not_before_utc IS NULL OR"
        "  CASE WHEN json_extract(r.status_data, '$.not_before_boot') IS ?"
        "  THEN json_extract(r.status_data, '$.not_before_boottime_ns') <= ? ELSE r.not_before_utc <= ? END)"
        " AND r.experiment NOT IN (SELECT value FROM json_each(?)) ORDER BY r.position LIMIT 1",
        (campaign.id, clock.boot(), clock.boottime_ns(), utc_text(clock.utc()), json.dumps(list(without))),
    ).fetchone()
    if row is None:
        return None
    spec = json.loads(row["spec"])
    key = row["id"], campaign, row["experiment"], row["cycle"], row["position"]
    return QueuedRun(*key, spec, row["model"], row["guess_s"])


def earliest_retry(tx: sqlite3.Connection, campaign: Campaign, clock: Clock) -> Deadline | None:
    """When the first held-back run may start; None where none is held back."""
    rows = tx.execute(
        "SELECT status_data FROM runs WHERE campaign_id = ? AND status = 'Queued' AND not_before_utc IS NOT NULL",
        (campaign.id,),
    )
    queued = [Queued.model_validate_json(row[0]) for row in rows]
    deadlines = [
        Deadline(q.not_before_utc, q.not_before_boottime_ns, q.not_before_boot) for q in queued if q.not_before_utc
    ]
    return min(deadlines, key=lambda deadline: deadline.left_s(clock), default=None)


def paused_until(tx: sqlite3.Connection) -> list[tuple[Campaign, Deadline]]:
    """The paused campaigns that go on by themselves, with their deadlines."""
    rows = tx.execute(
        "SELECT id FROM campaigns WHERE status = 'Paused' AND json_extract(status_data, '$.until_utc') IS NOT NULL"
    )
    found = []
    for row in rows.fetchall():
        campaign = by_id(tx, row[0])
        status = campaign.status
        assert isinstance(status, CampaignPaused)
        assert status.until_utc is not None
        found.append((campaign, Deadline(status.until_utc, status.until_boottime_ns, status.until_boot)))
    return found
