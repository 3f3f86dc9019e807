"""Reading what `status` shows: the daemon's own words, the run on the lane, the last runs, the failures."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lemctl.store.queries import HAS_NEWER, label_of


@dataclass(frozen=True, slots=True)
class RunLine:
    """The newest attempt of a run, in one line. `figures` holds the metrics asked for, None where absent."""

    run: int
    campaign: str
    experiment: str
    backend: str
    axes: dict[str, Any]
    cycle: int
    status: str
    attempt: int | None
    outcome: str | None
    fault: str | None
    message: str | None
    verdict: str | None
    started_utc: str | None
    ended_utc: str | None
    took_s: float | None
    figures: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class FaultCount:
    """Failed runs of a campaign by kind, with one run to look at."""

    fault: str
    count: int
    newest_run: int
    message: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


def live(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """What the daemon wrote last: topic -> document, with `at_utc`. It may be long dead."""
    rows = connection.execute("SELECT topic, document, at_utc FROM live ORDER BY topic")
    return {row["topic"]: json.loads(row["document"]) | {"at_utc": row["at_utc"]} for row in rows}


_LINE = (
    f"SELECT r.id AS run, r.experiment, r.axes, r.cycle, r.status, e.backend, c.name, c.number, {HAS_NEWER},"  # noqa: S608
    " a.id AS attempt_id,"
    " a.number AS attempt, a.outcome, a.fault,"
    " CASE WHEN r.status IN ('Skipped', 'Cancelled') THEN json_extract(r.status_data, '$.reason') ELSE a.message END"
    " AS message, a.verdict, a.started_utc, a.ended_utc,"
    " (a.ended_mono_ns - a.started_mono_ns) / 1e9 AS took_s"
    " FROM {source} JOIN experiments e ON e.hash = r.experiment JOIN campaigns c ON c.id = r.campaign_id"
)


def last_runs(connection: sqlite3.Connection, limit: int, metrics: Sequence[str]) -> list[RunLine]:
    """The attempts that ended last, of whatever campaign, newest first."""
    source = "attempts a JOIN runs r ON r.id = a.run_id"
    sql = _LINE.format(source=source) + " WHERE a.outcome IS NOT NULL ORDER BY a.id DESC LIMIT ?"
    return [_line(connection, row, metrics) for row in connection.execute(sql, (limit,)).fetchall()]


def run_lines(
    connection: sqlite3.Connection,
    metrics: Sequence[str],
    *,
    campaign_id: int | None = None,
    run: int | None = None,
    status: str | None = None,
    verdict: str | None = None,
    backend: str | None = None,
    experiment: str | None = None,
    limit: int = 50,
) -> list[RunLine]:
    """Runs that satisfy every condition given, each with its newest attempt, newest run first."""
    source = (
        "runs r LEFT JOIN attempts a ON a.run_id = r.id"
        " AND a.number = (SELECT max(number) FROM attempts WHERE run_id = r.id)"
    )
    conditions = {
        "r.campaign_id = ?": campaign_id,
        "r.id = ?": run,
        "r.status = ?": status,
        "a.verdict = ?": verdict,
        "e.backend = ?": backend,
        "substr(r.experiment, 1, length(?)) = ?": experiment,
    }
    given = [(condition, value) for condition, value in conditions.items() if value is not None]
    where = " AND ".join(condition for condition, _ in given)
    values = [value for condition, value in given for _ in range(condition.count("?"))]
    sql = _LINE.format(source=source) + (f" WHERE {where}" if where else "") + " ORDER BY r.id DESC LIMIT ?"
    return [_line(connection, row, metrics) for row in connection.execute(sql, (*values, limit)).fetchall()]


@dataclass(frozen=True, slots=True)
class QueueLine:
    """A run that has not ended. `why` is what holds it back, if anything."""

    run: int
    backend: str
    axes: dict[str, Any]
    cycle: int
    status: str
    why: str | None


_IN_QUEUE = "r.campaign_id = ? AND r.status IN ('Queued', 'Starting', 'Cooling', 'Running')"
_BY_TURN = "ORDER BY r.status = 'Queued', r.position"


def queue_lines(connection: sqlite3.Connection, campaign_id: int, limit: int = -1) -> list[QueueLine]:
    """The runs of a campaign that have not ended, in the order of their turn; all of them below a limit of 0."""
    sql = (
        "SELECT r.id, e.backend, r.axes, r.cycle, r.status, json_extract(r.status_data, '$.why') FROM runs r"  # noqa: S608
        f" JOIN experiments e ON e.hash = r.experiment WHERE {_IN_QUEUE} {_BY_TURN} LIMIT ?"
    )
    rows = connection.execute(sql, (campaign_id, limit))
    return [QueueLine(row[0], row[1], json.loads(row[2]), row[3], row[4], row[5]) for row in rows]


def queue_states(connection: sqlite3.Connection, campaign_id: int) -> list[tuple[int, str, str | None]]:
    """(run, state, what holds it back) of the same runs in the same order: what can change of a queue."""
    sql = f"SELECT r.id, r.status, json_extract(r.status_data, '$.why') FROM runs r WHERE {_IN_QUEUE} {_BY_TURN}"  # noqa: S608
    return [(row[0], row[1], row[2]) for row in connection.execute(sql, (campaign_id,))]


def queue_length(connection: sqlite3.Connection, campaign_id: int) -> int:
    """How many there are of them."""
    sql = f"SELECT count(*) FROM runs r WHERE {_IN_QUEUE}"  # noqa: S608 - a constant
    return int(connection.execute(sql, (campaign_id,)).fetchone()[0])


def next_queued(connection: sqlite3.Connection, campaign_id: int, now_utc: str) -> QueueLine | None:
    """The run whose turn is next; one that is held back until later is passed over."""
    row = connection.execute(
        "SELECT r.id, e.backend, r.axes, r.cycle, r.status, json_extract(r.status_data, '$.why') FROM runs r"
        " JOIN experiments e ON e.hash = r.experiment WHERE r.campaign_id = ? AND r.status = 'Queued'"
        " AND (r.not_before_utc IS NULL OR r.not_before_utc <= ?) ORDER BY r.position LIMIT 1",
        (campaign_id, now_utc),
    ).fetchone()
    return None if row is None else QueueLine(row[0], row[1], json.loads(row[2]), row[3], row[4], row[5])


def last_transition(connection: sqlite3.Connection) -> int:
    """Id of the newest entry of the transition log."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM transitions").fetchone()[0])


def ended_since(
    connection: sqlite3.Connection, campaign_id: int, transition: int, metrics: Sequence[str]
) -> tuple[list[RunLine], int]:
    """The runs of a campaign that ended after that entry of the transition log, and the newest entry."""
    newest = last_transition(connection)
    rows = connection.execute(
        "SELECT DISTINCT t.entity_id FROM transitions t JOIN runs r ON r.id = t.entity_id"
        " WHERE t.id > ? AND t.id <= ? AND t.entity = 'run' AND r.campaign_id = ?"
        " AND t.to_status IN ('Done', 'Failed', 'Skipped', 'Cancelled') ORDER BY t.id",
        (transition, newest, campaign_id),
    ).fetchall()
    found = [line for row in rows for line in run_lines(connection, metrics, run=row[0])]
    return found, newest


def faults(connection: sqlite3.Connection, campaign_id: int) -> list[FaultCount]:
    """Failed runs by kind, most frequent first."""
    rows = connection.execute(
        "SELECT json_extract(status_data, '$.fault') AS fault, count(*) AS n, max(id) AS newest,"
        " json_extract(status_data, '$.message') AS message"
        " FROM runs WHERE campaign_id = ? AND status = 'Failed' GROUP BY fault ORDER BY n DESC, fault",
        (campaign_id,),
    )
    return [FaultCount(row["fault"], row["n"], row["newest"], row["message"]) for row in rows]


def _line(connection: sqlite3.Connection, row: sqlite3.Row, metrics: Sequence[str]) -> RunLine:
    return RunLine(
        run=row["run"],
        campaign=label_of(row["name"], row["number"], bool(row["has_newer"])),
        experiment=row["experiment"],
        backend=row["backend"],
        axes=json.loads(row["axes"]),
        cycle=row["cycle"],
        status=row["status"],
        attempt=row["attempt"],
        outcome=row["outcome"],
        fault=row["fault"],
        message=row["message"],
        verdict=row["verdict"],
        started_utc=row["started_utc"],
        ended_utc=row["ended_utc"],
        took_s=row["took_s"],
        figures=_figures(connection, row["attempt_id"], metrics),
    )


def _figures(connection: sqlite3.Connection, attempt_id: int | None, metrics: Sequence[str]) -> dict[str, float | None]:
    figures: dict[str, float | None] = dict.fromkeys(metrics)
    if attempt_id is not None and metrics:
        marks = ", ".join("?" * len(metrics))
        sql = f"SELECT name, value FROM metrics WHERE attempt_id = ? AND name IN ({marks})"  # noqa: S608 - marks only
        figures.update((row["name"], row["value"]) for row in connection.execute(sql, (attempt_id, *metrics)))
    return figures
