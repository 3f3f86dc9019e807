"""What the daemon does now: one row a topic, overwritten, for `status` to read at any hour."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from lemctl.clock import Clock, utc_text


def put(tx: sqlite3.Connection, topic: str, document: Mapping[str, Any], clock: Clock) -> None:
    """Overwrite a topic."""
    tx.execute(
        "INSERT INTO live (topic, document, at_utc) VALUES (?, ?, ?)"
        " ON CONFLICT (topic) DO UPDATE SET document = excluded.document, at_utc = excluded.at_utc",
        (topic, json.dumps(document), utc_text(clock.utc())),
    )


def drop(tx: sqlite3.Connection, topic: str) -> None:
    """The topic has ended."""
    tx.execute("DELETE FROM live WHERE topic = ?", (topic,))


def get(connection: sqlite3.Connection, topic: str) -> dict[str, Any] | None:
    """The newest document of a topic."""
    row = connection.execute("SELECT document FROM live WHERE topic = ?", (topic,)).fetchone()
    if row is None:
        return None
    document: dict[str, Any] = json.loads(row[0])
    return document


def clear(tx: sqlite3.Connection) -> None:
    """A new daemon begins with nothing."""
    tx.execute("DELETE FROM live")
