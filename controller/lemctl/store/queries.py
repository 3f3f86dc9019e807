"""Reading campaigns: plain rows for tables. Light enough that `status` answers at once: no status models, no plan.

What runs and attempts have to tell is in `read_status` and `read_results`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lemctl.errors import NotFound

RUN_STATUSES = ("Queued", "Starting", "Cooling", "Running", "Done", "Failed", "Skipped", "Cancelled")
OPEN_STATUSES = ("Waiting", "Active", "Paused", "Stopped")
UNFINISHED = ("Queued", "Starting", "Cooling", "Running")


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """A campaign as tables show it. `counts` has every run status, zeros included."""

    id: int
    name: str
    number: int
    status: str
    reason: str | None
    executor: str
    priority: int
    after: str | None
    created_utc: str
    ended_utc: str | None
    counts: dict[str, int] = field(default_factory=dict)
    has_newer: bool = False
    until_utc: str | None = None

    @property
    def label(self) -> str:
        """`name` or `name#2`: what a person types to mean this one."""
        return label_of(self.name, self.number, self.has_newer)

    @property
    def total(self) -> int:
        """All runs."""
        return sum(self.counts.values())

    @property
    def left(self) -> int:
        """Runs that have not ended."""
        return sum(self.counts.get(status, 0) for status in UNFINISHED)

    @property
    def is_open(self) -> bool:
        """Whether runs of it may still start."""
        return self.status in OPEN_STATUSES

    @property
    def exit_code(self) -> int:
        """What `start --wait` ends with: 0, or 3 where a run failed or the campaign was cut short."""
        return 3 if self.counts.get("Failed", 0) or self.counts.get("Cancelled", 0) or self.status == "Cancelled" else 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        names = ("name", "number", "label", "status", "reason", "until_utc", "executor", "priority", "after")
        body = {name: getattr(self, name) for name in names}
        return body | {"created_utc": self.created_utc, "ended_utc": self.ended_utc, "runs": self.counts}


def label_of(name: str, number: int, has_newer: bool = False) -> str:
    """`name`, or `name#2` for the second campaign of that name. The first is `name#1` once there is a second, which
    the bare name then means."""
    return name if number == 1 and not has_newer else f"{name}#{number}"


#: Whether the campaign `c` is followed by another one of its name.
HAS_NEWER = "EXISTS (SELECT 1 FROM campaigns n WHERE n.name = c.name AND n.number > c.number) AS has_newer"
_SELECT = (
    f"SELECT c.*, {HAS_NEWER}, a.name AS after_name, a.number AS after_number"  # noqa: S608 - a constant
    " FROM campaigns c LEFT JOIN campaigns a ON a.id = c.after_id"
)


def list_campaigns(connection: sqlite3.Connection, limit: int = 50) -> list[CampaignRow]:
    """The newest campaigns, newest first."""
    return _rows(connection, connection.execute(f"{_SELECT} ORDER BY c.id DESC LIMIT ?", (limit,)).fetchall())


def last_ended(connection: sqlite3.Connection) -> list[CampaignRow]:
    """The campaign that ended last, in a list; none where none has."""
    rows = connection.execute(
        f"{_SELECT} WHERE c.ended_utc IS NOT NULL ORDER BY c.ended_utc DESC, c.id DESC LIMIT 1"
    ).fetchall()
    return _rows(connection, rows)


def line_of_campaigns(connection: sqlite3.Connection) -> list[CampaignRow]:
    """What has not ended, in the order of its turn."""
    rows = connection.execute(
        f"{_SELECT} WHERE c.status IN ('Waiting', 'Active', 'Paused', 'Stopped')"
        " ORDER BY c.status = 'Active' DESC, c.priority DESC, c.id"
    )
    return _rows(connection, rows.fetchall())


def find_campaign(connection: sqlite3.Connection, label: str | None) -> CampaignRow:
    """The campaign `name#number`, the newest of `name`, or the newest of all for None. Raises `NotFound`."""
    if label is None:
        found = connection.execute(f"{_SELECT} ORDER BY c.id DESC LIMIT 1").fetchall()
    else:
        name, _, number = label.partition("#")
        found = connection.execute(
            f"{_SELECT} WHERE c.name = ? AND (? = '' OR CAST(c.number AS TEXT) = ?) ORDER BY c.number DESC LIMIT 1",
            (name, number, number),
        ).fetchall()
    if found:
        return _rows(connection, found)[0]
    names = [
        row[0] for row in connection.execute("SELECT name FROM campaigns GROUP BY name ORDER BY max(id) DESC LIMIT 5")
    ]
    there_are = f"; there are {', '.join(names)}" if names else "; none has been started"
    raise NotFound((f"no campaign {label!r}" if label else "no campaign") + there_are)


def campaign_by_id(connection: sqlite3.Connection, campaign_id: int) -> CampaignRow:
    """The campaign of this row id, which must exist."""
    return _rows(connection, connection.execute(f"{_SELECT} WHERE c.id = ?", (campaign_id,)).fetchall())[0]


def axis_keys(connection: sqlite3.Connection, campaign_id: int | None) -> list[str]:
    """The swept keys of a campaign's runs, or of all."""
    rows = connection.execute(
        "SELECT DISTINCT a.key FROM runs r, json_each(r.axes) a WHERE ?1 IS NULL OR r.campaign_id = ?1 ORDER BY a.key",
        (campaign_id,),
    )
    return [row[0] for row in rows]


def campaign_document(connection: sqlite3.Connection, campaign_id: int) -> tuple[dict[str, Any], str]:
    """(the normalised campaign, the file as it was written)."""
    row = connection.execute("SELECT document, source FROM campaigns WHERE id = ?", (campaign_id,)).fetchone()
    return json.loads(row["document"]), str(row["source"])


def campaign_specs(connection: sqlite3.Connection, campaign_id: int) -> dict[str, dict[str, Any]]:
    """experiment -> its specification, in the order of the campaign's runs."""
    rows = connection.execute(
        "SELECT e.hash, e.spec FROM runs r JOIN experiments e ON e.hash = r.experiment WHERE r.campaign_id = ?"
        " GROUP BY e.hash ORDER BY min(r.position)",
        (campaign_id,),
    )
    return {experiment: json.loads(spec) for experiment, spec in rows}


def _rows(connection: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[CampaignRow]:
    counts = _counts(connection, [row["id"] for row in rows])
    return [
        CampaignRow(
            id=row["id"],
            name=row["name"],
            number=row["number"],
            status=row["status"],
            reason=json.loads(row["status_data"]).get("reason"),
            until_utc=json.loads(row["status_data"]).get("until_utc"),
            executor=row["executor"],
            priority=row["priority"],
            after=None if row["after_name"] is None else label_of(row["after_name"], row["after_number"]),
            created_utc=row["created_utc"],
            ended_utc=row["ended_utc"],
            has_newer=bool(row["has_newer"]),
            counts=counts[row["id"]],
        )
        for row in rows
    ]


def _counts(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {}
    for campaign_id in ids:
        counted = connection.execute(
            "SELECT status, count(*) FROM runs WHERE campaign_id = ? GROUP BY status", (campaign_id,)
        )
        counts[campaign_id] = dict.fromkeys(RUN_STATUSES, 0) | {row[0]: row[1] for row in counted}
    return counts
