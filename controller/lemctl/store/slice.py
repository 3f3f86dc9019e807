"""A campaign's part of the database as a database of its own: what a bundle gives away, read by the same commands."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lemctl.errors import StoreUnusable
from lemctl.paths import Home
from lemctl.store.database import Store

_RUNS = "SELECT id FROM source.runs WHERE campaign_id = :campaign"
_ATTEMPTS = f"SELECT id FROM source.attempts WHERE run_id IN ({_RUNS})"  # noqa: S608 - constants
#: table -> which of its rows belong to a campaign, in an order that keeps references whole.
SLICED: dict[str, str] = {
    "campaigns": "id = :campaign",
    "experiments": "hash IN (SELECT experiment FROM source.runs WHERE campaign_id = :campaign)",
    "runs": "campaign_id = :campaign",
    "sessions": f"id IN (SELECT session_id FROM source.attempts WHERE run_id IN ({_RUNS}))",  # noqa: S608 - constants
    "environments": "hash IN (SELECT e.value FROM source.attempts a, json_each(a.environment) e"  # noqa: S608 - constants
    f" WHERE a.run_id IN ({_RUNS}))",
    "attempts": f"run_id IN ({_RUNS})",
    "windows": f"attempt_id IN ({_ATTEMPTS})",
    "metrics": f"attempt_id IN ({_ATTEMPTS})",
    "outputs": f"hash IN (SELECT outputs FROM source.works WHERE attempt_id IN ({_ATTEMPTS}))",  # noqa: S608 - constants
    "works": f"attempt_id IN ({_ATTEMPTS})",
    "findings": f"attempt_id IN ({_ATTEMPTS})",
    "devices": "1",
    "baselines": f"attempt_id IN ({_ATTEMPTS})",
    "transitions": f"(entity = 'campaign' AND entity_id = :campaign) OR (entity = 'run' AND entity_id IN ({_RUNS}))",
    "meta": "1",
}
#: Of one host's daemon and of people's orders, not of results; samples are copied apart.
LEFT_OUT = frozenset({"commands", "schedules", "firings", "live", "outbox"})


def write_slice(store: Store, campaign_id: int, folder: Path, *, with_samples: bool = True) -> Path:
    """Write the campaign's rows as `lem.db` in `folder`, a state folder of its own; returns the file."""
    home = Home(folder)
    Store.open(home, "write").close()
    connection = sqlite3.connect(home.database.as_uri(), uri=True, isolation_level=None)
    try:
        connection.execute("ATTACH ? AS source", (f"{store.home.database.as_uri()}?mode=ro",))
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM meta")
        for table, condition in SLICED.items():
            columns = ", ".join(_columns(connection, table))
            connection.execute(
                f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM source.{table} WHERE {condition}",  # noqa: S608 - names of our own tables
                {"campaign": campaign_id},
            )
        connection.execute("UPDATE main.campaigns SET after_id = NULL")
        if with_samples:
            _copy_samples(connection)
        broken = connection.execute("PRAGMA main.foreign_key_check").fetchone()
        if broken is not None:
            raise StoreUnusable(f"the slice would have a broken reference in {broken[0]}: this is a bug")
        connection.execute("COMMIT")
        connection.execute("DETACH source")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()
    return home.database


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Those that are stored, generated ones aside."""
    rows = connection.execute("SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden = 0", (table,))
    return [row[0] for row in rows]


def _copy_samples(connection: sqlite3.Connection) -> None:
    """The readings that were taken while the campaign's attempts lasted."""
    devices = [row[0] for row in connection.execute("SELECT id FROM main.devices")]
    attempts = connection.execute("SELECT boot_id, started_mono_ns, ended_mono_ns FROM main.attempts").fetchall()
    for boot_id, begin_ns, end_ns in attempts:
        for device in devices:
            for series in ("counter", "power", "slow"):
                connection.execute(
                    "INSERT OR IGNORE INTO main.samples SELECT * FROM source.samples"
                    " WHERE device_id = ? AND boot_id = ? AND series = ? AND t_mono_ns BETWEEN ? AND ?",
                    (device, boot_id, series, begin_ns, begin_ns if end_ns is None else end_ns),
                )
    used = "SELECT device_id FROM main.samples UNION SELECT device_id FROM main.baselines WHERE device_id IS NOT NULL"
    connection.execute(f"DELETE FROM main.devices WHERE id NOT IN ({used})")  # noqa: S608 - a constant
