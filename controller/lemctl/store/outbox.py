"""What people are told: written in the transaction of the event, so that neither is there without the other, and kept
until every address has taken it or nobody tries any longer. Addresses are not kept, only where they stand."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from lemctl.clock import Clock, utc_text
from lemctl.redact import redact

if TYPE_CHECKING:
    from lemctl.store.campaigns import Campaign

Event = Literal["finished", "breaker", "gpu_lost", "disk_low", "digest"]

TITLES: dict[Event, str] = {
    "finished": "has finished",
    "breaker": "is paused after failures",
    "gpu_lost": "has lost a GPU",
    "disk_low": "waits: the disk is full",
    "digest": "in the last day",
}


@dataclass(frozen=True)
class Letter:
    """One message that waits. `delivered` are the places, in the list of addresses, of those that have it already."""

    id: int
    urls_from: str
    title: str
    body: str
    tries: int
    delivered: tuple[int, ...]


def tell(
    tx: sqlite3.Connection,
    campaign: Campaign,
    event: Event,
    body: str,
    clock: Clock,
    key: str | None = None,
    title: str | None = None,
) -> bool:
    """Write a message for those whom the campaign names, if it wants this event told; whether it was written.

    What has a `key` is told once, ever. `title` goes on from the campaign's name where the event's own words do not say
    what happened.
    """
    notify = campaign.document.get("notify")
    if notify is None or event not in notify["on"]:
        return False
    now_utc = utc_text(clock.utc())
    cursor = tx.execute(
        "INSERT INTO outbox (event, campaign_id, urls_from, key, title, body, written_utc, not_before_utc)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (
            event,
            campaign.id,
            notify["urls_from"],
            key,
            f"{campaign.label} {title or TITLES[event]}",
            redact(body),
            now_utc,
            now_utc,
        ),
    )
    return cursor.rowcount == 1


def due(connection: sqlite3.Connection, clock: Clock) -> list[Letter]:
    """The messages that may be tried now, oldest first."""
    rows = connection.execute(
        "SELECT id, urls_from, title, body, tries, delivered FROM outbox"
        " WHERE sent_utc IS NULL AND given_up_utc IS NULL AND not_before_utc <= ? ORDER BY id",
        (utc_text(clock.utc()),),
    )
    return [Letter(r[0], r[1], r[2], r[3], r[4], tuple(json.loads(r[5]))) for r in rows]


def sent_since(connection: sqlite3.Connection, urls_from: str, since: datetime) -> list[datetime]:
    """When something was sent to these addresses since then, oldest first: messages sent together count once."""
    rows = connection.execute(
        "SELECT DISTINCT sent_utc FROM outbox WHERE urls_from = ? AND sent_utc >= ? ORDER BY sent_utc",
        (urls_from, utc_text(since)),
    )
    return [datetime.fromisoformat(row[0]) for row in rows]


def mark_sent(tx: sqlite3.Connection, letters: Sequence[Letter], clock: Clock) -> None:
    """Every address has taken them."""
    at_utc = utc_text(clock.utc())
    for letter in letters:
        tx.execute("UPDATE outbox SET sent_utc = ?, error = NULL, tries = tries + 1 WHERE id = ?", (at_utc, letter.id))


def mark_failed(
    tx: sqlite3.Connection,
    letters: Sequence[Letter],
    delivered: Sequence[int],
    error: str,
    retry_after_s: float | None,
    clock: Clock,
) -> None:
    """Some address has not taken them: to be tried again after so long, or never (None)."""
    now = clock.utc()
    again = None if retry_after_s is None else utc_text(now + timedelta(seconds=retry_after_s))
    for letter in letters:
        tx.execute(
            "UPDATE outbox SET tries = tries + 1, error = ?, delivered = ?,"
            " not_before_utc = coalesce(?, not_before_utc), given_up_utc = ? WHERE id = ?",
            (error, json.dumps(sorted(delivered)), again, None if again else utc_text(now), letter.id),
        )


def troubles(connection: sqlite3.Connection) -> list[str]:
    """Newest first: messages that wait for another try or were given up, as `doctor` tells them."""
    rows = connection.execute(
        "SELECT title, urls_from, error, tries, given_up_utc FROM outbox"
        " WHERE sent_utc IS NULL AND error IS NOT NULL ORDER BY id DESC LIMIT 5"
    )
    return [
        f"{row['title']!r} was not delivered to {row['urls_from']} ({row['error']};"
        f" {'given up after' if row['given_up_utc'] else 'so far'} {row['tries']} tries)"
        for row in rows
    ]
