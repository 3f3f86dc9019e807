"""Reading results: the cells of a report, one run with everything known of it, and the tidy rows of an export."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lemctl.errors import NotFound
from lemctl.store.queries import HAS_NEWER, label_of

EXPORT_COLUMNS = (
    "host", "campaign", "executor", "run", "experiment", "backend", "model", "axes", "cycle", "run_status", "attempt",
    "attempt_uuid", "outcome", "fault", "verdict", "started_utc", "metric", "value", "uncertainty", "unit", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """A stored metric: a value with its standard uncertainty, or None with the reason."""

    value: float | None
    uncertainty: float | None
    unit: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run of a campaign with the figures of the attempt that gave its result; none where there is no result.

    `invalid` counts the attempts whose measurement was refused: they stand beside every n.
    """

    run: int
    experiment: str
    backend: str
    model: str
    axes: dict[str, Any]
    cycle: int
    status: str
    fault: str | None
    message: str | None
    verdict: str | None
    precise: bool
    """Skipped, because its experiment was measured precisely enough without it."""
    invalid: int
    figures: dict[str, Figure]


def campaign_results(
    connection: sqlite3.Connection, campaign_id: int, metrics: Sequence[str] | None
) -> list[RunResult]:
    """Every run in its order, with the metrics named, or all for None."""
    figures = _campaign_figures(connection, campaign_id, metrics)
    invalid = dict(
        connection.execute(
            "SELECT a.run_id, count(*) FROM attempts a JOIN runs r ON r.id = a.run_id"
            " WHERE r.campaign_id = ? AND a.verdict = 'INVALID' GROUP BY a.run_id",
            (campaign_id,),
        ).fetchall()
    )
    rows = connection.execute(
        "SELECT r.id, r.experiment, r.axes, r.cycle, r.status, r.status_data, e.backend, e.model"
        " FROM runs r JOIN experiments e ON e.hash = r.experiment WHERE r.campaign_id = ? ORDER BY r.position",
        (campaign_id,),
    )
    results = []
    for row in rows:
        status = json.loads(row["status_data"])
        results.append(
            RunResult(
                run=row["id"],
                experiment=row["experiment"],
                backend=row["backend"],
                model=row["model"],
                axes=json.loads(row["axes"]),
                cycle=row["cycle"],
                status=row["status"],
                fault=status.get("fault"),
                message=status.get("message") or status.get("reason"),
                verdict=status.get("verdict"),
                precise=status.get("because") == "precise",
                invalid=invalid.get(row["id"], 0),
                figures=figures.get(row["id"], {}),
            )
        )
    return results


def _campaign_figures(
    connection: sqlite3.Connection, campaign_id: int, metrics: Sequence[str] | None
) -> dict[int, dict[str, Figure]]:
    chosen = "" if metrics is None else f" AND m.name IN ({', '.join('?' * len(metrics))})"
    rows = connection.execute(
        "SELECT a.run_id, m.name, m.value, m.uncertainty, m.unit, m.reason FROM runs r"  # noqa: S608 - marks only
        " JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok' JOIN metrics m ON m.attempt_id = a.id"
        f" WHERE r.campaign_id = ? AND r.status = 'Done'{chosen}",
        (campaign_id, *(metrics or ())),
    )
    figures: dict[int, dict[str, Figure]] = {}
    for run, name, value, uncertainty, unit, reason in rows:
        figures.setdefault(run, {})[name] = Figure(value, uncertainty, unit, reason)
    return figures


@dataclass(frozen=True, slots=True)
class ConfigurationFinding:
    """A parameter that an engine reported otherwise than it was handed over, and in how many runs."""

    backend: str
    severity: str
    text: str
    runs: int


def configuration_findings(connection: sqlite3.Connection, campaign_id: int) -> list[ConfigurationFinding]:
    """Of the attempts that gave a result, those that speak against figures first."""
    rows = connection.execute(
        "SELECT e.backend, f.severity, f.text, count(DISTINCT r.id) FROM runs r"
        " JOIN experiments e ON e.hash = r.experiment JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok'"
        " JOIN findings f ON f.attempt_id = a.id AND f.code IN ('configuration', 'configuration_differs')"
        " WHERE r.campaign_id = ? GROUP BY 1, 2, 3 ORDER BY f.severity DESC, 1, 3",
        (campaign_id,),
    )
    return [ConfigurationFinding(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One reason why results of a campaign are SUSPECT: its code, the words of one of them, and whom it concerns."""

    code: str
    text: str
    runs: int
    experiments: tuple[str, ...]


def suspicions(connection: sqlite3.Connection, campaign_id: int) -> list[Suspicion]:
    """Of the attempts that gave a result, the most frequent first; `configuration_findings` are apart."""
    rows = connection.execute(
        "SELECT f.code, min(f.text), count(DISTINCT r.id) AS runs, group_concat(DISTINCT r.experiment) FROM runs r"
        " JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok' JOIN findings f ON f.attempt_id = a.id"
        " WHERE r.campaign_id = ? AND f.severity = 'SUSPECT' AND f.code <> 'configuration_differs'"
        " GROUP BY f.code ORDER BY runs DESC, f.code",
        (campaign_id,),
    )
    return [Suspicion(code, text, runs, tuple(sorted(found.split(",")))) for code, text, runs, found in rows]


def campaign_surroundings(connection: sqlite3.Connection, campaign_id: int) -> dict[str, Any]:
    """Where the results came from: `sessions` (distinct backend, executor, isolation, image, packages) and
    `environments` (kind -> distinct documents), as far as they were recorded."""
    sessions = connection.execute(
        "SELECT DISTINCT s.backend, s.executor, s.isolation, s.image_digest,"
        " json_extract(s.hello, '$.packages') AS packages, json_extract(s.hello, '$.python') AS python FROM sessions s"
        " WHERE s.id IN (SELECT a.session_id FROM attempts a JOIN runs r ON r.id = a.run_id WHERE r.campaign_id = ?)"
        " ORDER BY s.backend",
        (campaign_id,),
    ).fetchall()
    hashes = connection.execute(
        "SELECT DISTINCT h.value AS hash FROM attempts a JOIN runs r ON r.id = a.run_id, json_each(a.environment) h"
        " WHERE r.campaign_id = ?",
        (campaign_id,),
    ).fetchall()
    environments: dict[str, list[dict[str, Any]]] = {}
    for row in hashes:
        found = connection.execute("SELECT kind, document FROM environments WHERE hash = ?", (row["hash"],)).fetchone()
        if found is not None:
            environments.setdefault(found["kind"], []).append(json.loads(found["document"]))
    host = connection.execute("SELECT value FROM meta WHERE key = 'host_name'").fetchone()
    return {
        "host": None if host is None else host[0],
        "sessions": [
            {**dict(row), "packages": json.loads(row["packages"]) if row["packages"] else None} for row in sessions
        ],
        "environments": environments,
    }


def deep_idle_readings(connection: sqlite3.Connection, campaign_id: int) -> list[tuple[float, float]]:
    """Power in W and standard uncertainty of each B0 of a campaign, in order of time; each reading once, though every
    attempt has its own copy of the one that it stands on."""
    rows = connection.execute(
        "SELECT b.power_w, coalesce(b.uncertainty_w, 0.0) FROM baselines b JOIN attempts a ON a.id = b.attempt_id"
        " JOIN runs r ON r.id = a.run_id WHERE r.campaign_id = ? AND b.kind = 'B0' AND b.power_w IS NOT NULL"
        " ORDER BY b.id",
        (campaign_id,),
    )
    return [reading for reading, _ in groupby(tuple(row) for row in rows)]


def environments_of(connection: sqlite3.Connection, hashes: Mapping[str, str]) -> dict[str, Any]:
    """kind -> `hash` and `document` of what surrounded an attempt, given as kind -> hash."""
    found: dict[str, Any] = {}
    for kind, digest in hashes.items():
        row = connection.execute("SELECT document FROM environments WHERE hash = ?", (digest,)).fetchone()
        found[kind] = {"hash": digest, "document": None if row is None else json.loads(row["document"])}
    return found


def run_in_full(connection: sqlite3.Connection, run: int) -> dict[str, Any]:
    """Everything known of one run, as plain JSON types. Raises `NotFound`."""
    row = connection.execute(
        f"SELECT r.*, e.backend, e.model, e.spec, c.name, c.number, {HAS_NEWER}"  # noqa: S608 - a constant
        " FROM runs r JOIN experiments e ON e.hash = r.experiment JOIN campaigns c ON c.id = r.campaign_id"
        " WHERE r.id = ?",
        (run,),
    ).fetchone()
    if row is None:
        raise NotFound(f"no run {run}; `lemctl results list` shows what there is")
    attempts = connection.execute("SELECT * FROM attempts WHERE run_id = ? ORDER BY number", (run,)).fetchall()
    transitions = connection.execute(
        "SELECT from_status, to_status, data, at_utc, by FROM transitions"
        " WHERE entity = 'run' AND entity_id = ? ORDER BY id",
        (run,),
    )
    return {
        "run": row["id"],
        "campaign": label_of(row["name"], row["number"], bool(row["has_newer"])),
        "experiment": row["experiment"],
        "backend": row["backend"],
        "model": row["model"],
        "axes": json.loads(row["axes"]),
        "cycle": row["cycle"],
        "status": json.loads(row["status_data"]),
        "spec": json.loads(row["spec"]),
        "attempts": [_attempt_in_full(connection, attempt) for attempt in attempts],
        "transitions": [{**dict(row), "data": json.loads(row["data"])} for row in transitions],
    }


def _attempt_in_full(connection: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    body = dict(row) | {"facts": json.loads(row["facts"]), "environment": json.loads(row["environment"])}
    for table, order in (("windows", "window"), ("metrics", "name"), ("findings", "id"), ("baselines", "id")):
        found = connection.execute(f"SELECT * FROM {table} WHERE attempt_id = ? ORDER BY {order}", (row["id"],))  # noqa: S608
        body[table] = [{key: value for key, value in dict(one).items() if key != "attempt_id"} for one in found]
    session = connection.execute("SELECT * FROM sessions WHERE id = ?", (row["session_id"],)).fetchone()
    if session is not None:
        hello = session["hello"]
        body["session"] = dict(session) | {
            "engine": json.loads(session["engine"]),
            "hello": None if hello is None else json.loads(hello),
        }
    else:
        body["session"] = None
    return body


def export_rows(connection: sqlite3.Connection, campaign_id: int | None) -> Iterator[tuple[Any, ...]]:
    """One row for every metric of every ended attempt, in the order of `EXPORT_COLUMNS`; an attempt without metrics
    gives one row without a metric, so that no attempt disappears."""
    rows = connection.execute(
        f"SELECT a.host, c.name, c.number, {HAS_NEWER},"  # noqa: S608 - a constant
        " c.executor, r.id, r.experiment, e.backend, e.model, r.axes, r.cycle, r.status, a.number, a.uuid, a.outcome,"
        " a.fault, a.verdict, a.started_utc, m.name, m.value, m.uncertainty, m.unit, m.reason"
        " FROM attempts a JOIN runs r ON r.id = a.run_id JOIN experiments e ON e.hash = r.experiment"
        " JOIN campaigns c ON c.id = r.campaign_id LEFT JOIN metrics m ON m.attempt_id = a.id"
        " WHERE a.outcome IS NOT NULL AND (? IS NULL OR r.campaign_id = ?) ORDER BY a.id, m.name",
        (campaign_id, campaign_id),
    )
    for host, name, number, has_newer, *rest in rows:
        yield (host, label_of(name, number, bool(has_newer)), *rest)


def log_places(connection: sqlite3.Connection, run: int, attempt: int | None) -> dict[str, Any]:
    """The attempt (newest for None) with its message, detail, facts and session. Raises `NotFound`."""
    row = connection.execute(
        "SELECT a.id, a.uuid, a.number, a.outcome, a.fault, a.message, a.detail, a.verdict, a.facts, a.started_utc,"
        " a.ended_utc, s.uuid AS session FROM attempts a LEFT JOIN sessions s ON s.id = a.session_id"
        " WHERE a.run_id = ? AND (? IS NULL OR a.number = ?) ORDER BY a.number DESC LIMIT 1",
        (run, attempt, attempt),
    ).fetchone()
    if row is None:
        exists = connection.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is not None
        which = f"attempt {attempt}" if attempt is not None else "attempt yet"
        raise NotFound(
            f"run {run} has no {which}" if exists else f"no run {run}; `lemctl results list` shows what there is"
        )
    return dict(row) | {"facts": json.loads(row["facts"])}
