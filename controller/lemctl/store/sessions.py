"""Rows of `sessions` (one runner process each), `environments` and `baselines`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lemctl.clock import Clock, utc_text


@dataclass(frozen=True)
class NewSession:
    """What is known of a session before its runner runs."""

    uuid: str
    host: str
    lane: str
    backend: str
    executor: str
    isolation: str
    engine_key: str
    engine: str
    boot_id: str


def begin(tx: sqlite3.Connection, new: NewSession, clock: Clock) -> int:
    """Insert a session; its row id."""
    cursor = tx.execute(
        "INSERT INTO sessions (uuid, host, lane, backend, executor, isolation, engine_key, engine, boot_id,"
        " started_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.uuid,
            new.host,
            new.lane,
            new.backend,
            new.executor,
            new.isolation,
            new.engine_key,
            new.engine,
            new.boot_id,
            utc_text(clock.utc()),
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def greeted(
    tx: sqlite3.Connection, row: int, hello: Mapping[str, Any], container_id: str | None, image_digest: str | None
) -> None:
    """The runner said hello."""
    tx.execute(
        "UPDATE sessions SET hello = ?, container_id = ?, image_digest = ? WHERE id = ?",
        (json.dumps(hello), container_id, image_digest, row),
    )


def end(tx: sqlite3.Connection, row: int, reason: str, clock: Clock) -> None:
    """The runner has ended; the first reason stands."""
    tx.execute(
        "UPDATE sessions SET ended_utc = ?, end_reason = ? WHERE id = ? AND ended_utc IS NULL",
        (utc_text(clock.utc()), reason, row),
    )


def end_all(tx: sqlite3.Connection, reason: str, clock: Clock) -> int:
    """After a crash: no session of the dead daemon lives on."""
    cursor = tx.execute(
        "UPDATE sessions SET ended_utc = ?, end_reason = ? WHERE ended_utc IS NULL", (utc_text(clock.utc()), reason)
    )
    return cursor.rowcount


def executors_in_use(connection: sqlite3.Connection) -> set[str]:
    """The executors that this state folder has ever used. A warm container outlives its last session, so those that
    have ended count too."""
    return {row[0] for row in connection.execute("SELECT DISTINCT executor FROM sessions")}


def attach(tx: sqlite3.Connection, attempt_id: int, session_id: int) -> None:
    """The attempt runs in this session."""
    tx.execute("UPDATE attempts SET session_id = ? WHERE id = ?", (session_id, attempt_id))


def add_environment(
    tx: sqlite3.Connection, attempt_id: int, kind: str, digest: str, document: str, clock: Clock
) -> None:
    """Store an environment once, by hash, and link it from the attempt."""
    tx.execute(
        "INSERT INTO environments (hash, kind, document, first_utc) VALUES (?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
        (digest, kind, document, utc_text(clock.utc())),
    )
    tx.execute(
        "UPDATE attempts SET environment = json_set(environment, ?, ?) WHERE id = ?", (f"$.{kind}", digest, attempt_id)
    )


def add_baseline(
    tx: sqlite3.Connection,
    attempt_id: int,
    kind: str,
    power_w: float | None,
    uncertainty_w: float | None,
    reason: str | None,
    clock: Clock,
) -> None:
    """One baseline of an attempt; absent with its reason."""
    tx.execute(
        "INSERT INTO baselines (attempt_id, kind, power_w, uncertainty_w, reason, taken_utc) VALUES (?, ?, ?, ?, ?, ?)",
        (attempt_id, kind, power_w, uncertainty_w, reason, utc_text(clock.utc())),
    )


def first_deep_idle_w(connection: sqlite3.Connection, campaign_id: int, lane: str) -> float | None:
    """B0 at a campaign's start on a lane, in W; None where none was taken."""
    row = connection.execute(
        "SELECT b.power_w FROM runs r CROSS JOIN attempts a ON a.run_id = r.id AND a.lane = ?"
        " CROSS JOIN baselines b ON b.attempt_id = a.id AND b.kind = 'B0' AND b.power_w IS NOT NULL"
        " WHERE r.campaign_id = ? ORDER BY b.id LIMIT 1",
        (lane, campaign_id),
    ).fetchone()
    return None if row is None else float(row[0])


def add_closing_baseline(
    tx: sqlite3.Connection,
    run_id: int,
    power_w: float | None,
    uncertainty_w: float | None,
    reason: str | None,
    clock: Clock,
) -> None:
    """B0 at a campaign's end, kept with the newest attempt of its last run."""
    row = tx.execute("SELECT max(id) FROM attempts WHERE run_id = ?", (run_id,)).fetchone()
    add_baseline(tx, row[0], "B0", power_w, uncertainty_w, reason, clock)
