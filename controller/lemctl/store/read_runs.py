"""What the daemon reads of runs and attempts to decide what becomes of them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from lemctl.errors import FaultKind, NotFound, UsageMistake
from lemctl.store.campaigns import Campaign


@dataclass(frozen=True)
class PastAttempt:
    """An earlier attempt of a run."""

    outcome: str
    fault: str | None


@dataclass(frozen=True)
class InFlight:
    """An attempt that a dead daemon left without an outcome."""

    attempt_id: int
    run_id: int


def past_attempts(tx: sqlite3.Connection, run_id: int, before_attempt: int) -> list[PastAttempt]:
    """The ended attempts of a run before one, oldest first. A person's retry begins a new count.

    Order is the log's: the wall clock may have stepped in between.
    """
    rows = tx.execute(
        "SELECT a.outcome, a.fault FROM attempts a JOIN transitions t"
        " ON t.entity = 'run' AND t.entity_id = a.run_id AND t.to_status = 'Starting'"
        " AND json_extract(t.data, '$.attempt') = a.id"
        " WHERE a.run_id = ? AND a.id < ? AND a.outcome IS NOT NULL AND t.id > ("
        "  SELECT coalesce(max(id), 0) FROM transitions WHERE entity = 'run' AND entity_id = a.run_id"
        "  AND to_status = 'Queued' AND by = 'person')"
        " ORDER BY a.id",
        (run_id, before_attempt),
    )
    return [PastAttempt(row[0], row[1]) for row in rows]


def in_flight(tx: sqlite3.Connection) -> list[InFlight]:
    """Attempts without an outcome."""
    rows = tx.execute("SELECT id, run_id FROM attempts WHERE outcome IS NULL ORDER BY id")
    return [InFlight(row[0], row[1]) for row in rows]


def newest_faults(tx: sqlite3.Connection, campaign: Campaign, count: int) -> list[FaultKind | None]:
    """How the newest runs of a campaign ended since it last became Active: the fault, None for Done; newest first."""
    since = _active_since(tx, campaign)
    rows = tx.execute(
        "SELECT json_extract(t.data, '$.fault') FROM transitions t JOIN runs r ON r.id = t.entity_id"
        " WHERE t.entity = 'run' AND t.to_status IN ('Done', 'Failed') AND t.id > ? AND r.campaign_id = ?"
        " ORDER BY t.id DESC LIMIT ?",
        (since, campaign.id, count),
    )
    return [row[0] for row in rows]


def _active_since(tx: sqlite3.Connection, campaign: Campaign) -> int:
    """The entry of the log with which the campaign last became Active."""
    row = tx.execute(
        "SELECT coalesce(max(id), 0) FROM transitions"
        " WHERE entity = 'campaign' AND entity_id = ? AND to_status = 'Active'",
        (campaign.id,),
    ).fetchone()
    return int(row[0])


def probe_for(tx: sqlite3.Connection, campaign: Campaign) -> FaultKind | None:
    """The fault after which the campaign's breaker had opened when it last became Active; None where it had not."""
    row = tx.execute(
        "SELECT json_extract(data, '$.fault') FROM transitions WHERE entity = 'campaign' AND entity_id = ?"
        " AND to_status IN ('Paused', 'Stopped') AND id < ? ORDER BY id DESC LIMIT 1",
        (campaign.id, _active_since(tx, campaign)),
    ).fetchone()
    return None if row is None else row[0]


def probe_outcome(tx: sqlite3.Connection, campaign: Campaign) -> str | None:
    """How the first attempt of the campaign ended that was judged since it last became Active: `ok` or `failed`."""
    row = tx.execute(
        "SELECT a.outcome FROM transitions t JOIN runs r ON r.id = t.entity_id"
        " JOIN attempts a ON a.id = json_extract(t.data, '$.attempt')"
        " WHERE t.entity = 'run' AND t.to_status = 'Starting' AND t.id > ? AND r.campaign_id = ?"
        " AND a.outcome IN ('ok', 'failed') ORDER BY t.id LIMIT 1",
        (_active_since(tx, campaign), campaign.id),
    ).fetchone()
    return None if row is None else str(row[0])


def run_under_way(tx: sqlite3.Connection, campaign: Campaign) -> int | None:
    """The campaign's run that is under way, if any."""
    row = tx.execute(
        "SELECT id FROM runs WHERE campaign_id = ? AND status IN ('Starting', 'Cooling', 'Running')", (campaign.id,)
    ).fetchone()
    return None if row is None else int(row[0])


def has_queued(tx: sqlite3.Connection, campaign: Campaign) -> bool:
    """Whether anything is left to start."""
    row = tx.execute(
        "SELECT 1 FROM runs WHERE campaign_id = ? AND status = 'Queued' LIMIT 1", (campaign.id,)
    ).fetchone()
    return row is not None


def count_by_status(tx: sqlite3.Connection, campaign: Campaign) -> dict[str, int]:
    """How many runs of a campaign are in each state."""
    rows = tx.execute("SELECT status, count(*) FROM runs WHERE campaign_id = ? GROUP BY status", (campaign.id,))
    return {row[0]: row[1] for row in rows}


def blocks_done(tx: sqlite3.Connection, campaign: Campaign) -> int:
    """How many blocks (one cycle of every experiment) have ended completely, from the first on."""
    row = tx.execute(
        "SELECT min(cycle) - 1, (SELECT max(cycle) FROM runs WHERE campaign_id = ?1) FROM runs WHERE campaign_id = ?1"
        " AND status IN ('Queued', 'Starting', 'Cooling', 'Running')",
        (campaign.id,),
    ).fetchone()
    return int(row[1] if row[0] is None else row[0])


def figures_so_far(tx: sqlite3.Connection, campaign: Campaign, metric: str) -> dict[str, list[float]]:
    """VALID figures of a metric, by experiment, of those experiments that have queued cycles left."""
    rows = tx.execute(
        "SELECT r.experiment, m.value FROM runs r LEFT JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok'"
        " AND a.verdict = 'VALID' LEFT JOIN metrics m ON m.attempt_id = a.id AND m.name = ?"
        " WHERE r.campaign_id = ? AND r.experiment IN"
        " (SELECT experiment FROM runs WHERE campaign_id = ? AND status = 'Queued') ORDER BY r.cycle",
        (metric, campaign.id, campaign.id),
    )
    found: dict[str, list[float]] = {}
    for experiment, value in rows:
        found.setdefault(experiment, []).extend([] if value is None else [value])
    return found


@dataclass(frozen=True)
class RunRow:
    """A run by its number."""

    id: int
    campaign_id: int
    status: str


def run_row(tx: sqlite3.Connection, run_id: int) -> RunRow:
    """Raises `NotFound`."""
    row = tx.execute("SELECT id, campaign_id, status FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise NotFound(f"no run {run_id}; `lemctl results list` shows them")
    return RunRow(row[0], row[1], row[2])


def retryable(tx: sqlite3.Connection, campaign: Campaign, run_id: int | None, where: dict[str, Any]) -> list[int]:
    """Runs of a campaign that failed, were cancelled, or were skipped for a sibling's failure: all that match swept
    keys, the backend, the model or the `kind` of failure, or the one named, for whatever reason it was skipped.

    Raises `UsageMistake` for a run that is in another state.
    """
    rows = tx.execute(
        "SELECT r.id, r.status, json_extract(r.status_data, '$.because') AS because,"
        " json_extract(r.status_data, '$.fault') AS fault, r.axes, e.backend, e.model"
        " FROM runs r JOIN experiments e ON e.hash = r.experiment"
        " WHERE r.campaign_id = ? AND (? IS NULL OR r.id = ?) ORDER BY r.position",
        (campaign.id, run_id, run_id),
    ).fetchall()
    if run_id is not None and rows and rows[0]["status"] not in ("Failed", "Skipped", "Cancelled"):
        raise UsageMistake(
            f"run {run_id} is {rows[0]['status']}: only a failed, skipped or cancelled run can be retried"
        )
    found = []
    for row in rows:
        known = {**json.loads(row["axes"]), "backend": row["backend"], "model": row["model"], "kind": row["fault"]}
        matches = all(str(known.get(key)) == str(value) for key, value in where.items())
        wanted = row["status"] in ("Failed", "Cancelled") or (
            row["status"] == "Skipped" and (row["because"] == "failure" or run_id is not None)
        )
        if wanted and matches:
            found.append(int(row["id"]))
    return found
