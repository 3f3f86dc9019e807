"""GPUs and their raw readings: every poll, as read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lemctl.clock import Clock, utc_text
from lemctl.store.database import Store


class SampleRow(Protocol):
    """One reading of one GPU."""

    @property
    def gpu(self) -> str: ...  # noqa: D102
    @property
    def series(self) -> str: ...  # noqa: D102
    @property
    def t_mono_ns(self) -> int: ...  # noqa: D102
    @property
    def reading(self) -> Mapping[str, Any]: ...  # noqa: D102


def know_device(tx: sqlite3.Connection, gpu: str, facts: Mapping[str, Any]) -> int:
    """The row id of a GPU, its facts brought up to date."""
    tx.execute(
        "INSERT INTO devices (uuid, facts) VALUES (?, ?) ON CONFLICT (uuid) DO UPDATE SET facts = excluded.facts",
        (gpu, json.dumps(facts)),
    )
    return int(tx.execute("SELECT id FROM devices WHERE uuid = ?", (gpu,)).fetchone()[0])


def add_samples(store: Store, devices: Mapping[str, int], boot_id: str, rows: Sequence[SampleRow]) -> None:
    """Append readings, in one transaction. Safe from any thread."""
    with store.transaction() as tx:
        tx.executemany(
            "INSERT OR IGNORE INTO samples (device_id, boot_id, t_mono_ns, series, reading) VALUES (?, ?, ?, ?, ?)",
            ((devices[r.gpu], boot_id, r.t_mono_ns, r.series, json.dumps(r.reading)) for r in rows if r.gpu in devices),
        )


def quarantine(tx: sqlite3.Connection, gpus: Sequence[str], reason: str, clock: Clock) -> None:
    """Nothing more runs on these GPUs until a person says so."""
    at_utc = utc_text(clock.utc())
    for gpu in gpus:
        tx.execute(
            "UPDATE devices SET quarantined_utc = ?, quarantine_reason = ? WHERE uuid = ? AND quarantined_utc IS NULL",
            (at_utc, reason, gpu),
        )


def lift_quarantine(tx: sqlite3.Connection) -> list[str]:
    """A person says that the GPUs are well; UUIDs of those that were kept out."""
    found = [row[0] for row in tx.execute("SELECT uuid FROM devices WHERE quarantined_utc IS NOT NULL ORDER BY id")]
    tx.execute("UPDATE devices SET quarantined_utc = NULL, quarantine_reason = NULL")
    return found


def quarantined(connection: sqlite3.Connection) -> dict[str, str]:
    """The GPUs that are kept out, with the reasons."""
    rows = connection.execute("SELECT uuid, quarantine_reason FROM devices WHERE quarantined_utc IS NOT NULL")
    return {row[0]: row[1] for row in rows}


def keep_memory_floor(tx: sqlite3.Connection, gpu: str, since: str, used_b: int) -> None:
    """The least memory in use that was read of a GPU with nothing on it, in bytes; `since` names the boot and driver
    that it holds for."""
    tx.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (f"memory_floor {gpu}", json.dumps({"since": since, "used_b": used_b})),
    )


def memory_floor_b(connection: sqlite3.Connection, gpu: str, since: str) -> int | None:
    """What was kept of a GPU for this boot and driver, in bytes; None where nothing was."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (f"memory_floor {gpu}",)).fetchone()
    kept = json.loads(row[0]) if row else {}
    return int(kept["used_b"]) if kept.get("since") == since else None
