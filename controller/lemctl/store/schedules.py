"""Rows of `schedules` and `firings`: when a campaign begins by itself, and what came of each due time.

Which moment is due is decided elsewhere (`campaign.cron`, `daemon.schedule`); here it is answered once, by a primary
key. Light: `status` reads it, too.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from lemctl.clock import Clock, utc_text


@dataclass(frozen=True, slots=True)
class Schedule:
    """One that is in force: once `at_utc`, or by `cron`; `tz` is the zone of its clock (None: the host's). Nothing up
    to `since_utc` is due any more."""

    id: int
    campaign_id: int
    name: str
    at_utc: str | None
    cron: str | None
    tz: str | None
    since_utc: str
    has_fired: bool

    @property
    def since(self) -> datetime:
        """`since_utc` as a moment."""
        return datetime.fromisoformat(self.since_utc)


def add(
    tx: sqlite3.Connection,
    campaign_id: int,
    name: str,
    clock: Clock,
    *,
    at_utc: str | None = None,
    cron: str | None = None,
    tz: str | None = None,
) -> None:
    """Put a schedule in force, in place of the one before it for campaigns of that name."""
    end(tx, name, clock)
    tx.execute(
        "INSERT INTO schedules (campaign_id, name, at_utc, cron, tz, created_utc) VALUES (?, ?, ?, ?, ?, ?)",
        (campaign_id, name, at_utc, cron, tz, utc_text(clock.utc())),
    )


def end(tx: sqlite3.Connection, name: str, clock: Clock) -> bool:
    """No campaign of that name begins by itself any more; whether one would have."""
    cursor = tx.execute(
        "UPDATE schedules SET ended_utc = ? WHERE name = ? AND ended_utc IS NULL", (utc_text(clock.utc()), name)
    )
    return cursor.rowcount > 0


def in_force(connection: sqlite3.Connection) -> list[Schedule]:
    """Every schedule that may still fire, oldest first."""
    rows = connection.execute(
        "SELECT s.*, (SELECT max(due_utc) FROM firings f WHERE f.schedule_id = s.id) AS last_due"
        " FROM schedules s WHERE ended_utc IS NULL ORDER BY s.id"
    )
    return [
        Schedule(
            row["id"],
            row["campaign_id"],
            row["name"],
            row["at_utc"],
            row["cron"],
            row["tz"],
            max(row["created_utc"], row["last_due"] or ""),
            row["last_due"] is not None,
        )
        for row in rows
    ]


def is_awaited(connection: sqlite3.Connection, campaign_id: int) -> bool:
    """Whether a campaign waits for the first firing of its schedule."""
    row = connection.execute(
        "SELECT 1 FROM schedules s WHERE s.campaign_id = ? AND s.ended_utc IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM firings f WHERE f.schedule_id = s.id)",
        (campaign_id,),
    ).fetchone()
    return row is not None


def fire(tx: sqlite3.Connection, schedule: Schedule, due_utc: str, clock: Clock) -> bool:
    """Answer a due time; False where it has been answered before. One that is due once is over then."""
    at_utc = utc_text(clock.utc())
    cursor = tx.execute(
        "INSERT INTO firings (schedule_id, due_utc, fired_utc) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (schedule.id, due_utc, at_utc),
    )
    if schedule.cron is None:
        tx.execute("UPDATE schedules SET ended_utc = ? WHERE id = ?", (at_utc, schedule.id))
    return cursor.rowcount == 1


def note_begun(tx: sqlite3.Connection, schedule: Schedule, due_utc: str, campaign_id: int) -> None:
    """The campaign that a firing began."""
    tx.execute(
        "UPDATE firings SET campaign_id = ? WHERE schedule_id = ? AND due_utc = ?", (campaign_id, schedule.id, due_utc)
    )
