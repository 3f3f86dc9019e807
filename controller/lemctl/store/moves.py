"""`move`: the one place where a status changes. It checks the table of moves, writes the row and appends to the log,
inside the caller's transaction; and the begin and end of an attempt, which always come with a move."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lemctl.clock import Clock, utc_text
from lemctl.errors import FaultKind, LemctlError
from lemctl.store.status import (
    MOVES,
    CampaignStatus,
    Cancelled,
    Cooling,
    Done,
    Outcome,
    Queued,
    Running,
    RunStatus,
    Starting,
    campaign_status,
    dump,
)

Entity = Literal["run", "campaign"]
_UPDATE = {
    "run": "UPDATE runs SET status = ?, status_data = ? WHERE id = ?",
    "campaign": "UPDATE campaigns SET status = ?, status_data = ? WHERE id = ?",
}
_SELECT = {"run": "SELECT status FROM runs WHERE id = ?", "campaign": "SELECT status FROM campaigns WHERE id = ?"}


class IllegalMove(LemctlError):
    """A move that the table does not allow: somebody else moved first, or a bug."""


@dataclass(frozen=True)
class Attempt:
    """One try at a run, as begun."""

    id: int
    uuid: str
    run_id: int
    number: int
    lane: str
    started_mono_ns: int


@dataclass(frozen=True)
class MetricRow:
    """One figure of an attempt; `value` None has a `reason`."""

    name: str
    value: float | None
    unit: str
    uncertainty: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class FindingRow:
    """One remark of the judge."""

    code: str
    severity: Literal["INFO", "SUSPECT", "INVALID"]
    text: str


@dataclass(frozen=True)
class WindowRow:
    """One measured interval, monotonic ns on the attempt's boot."""

    window: int
    t_begin_mono_ns: int
    t_end_mono_ns: int
    batches: int
    requests: int
    tokens_in: int
    tokens_out: int


def move(
    tx: sqlite3.Connection, entity: Entity, entity_id: int, to: RunStatus | CampaignStatus, at_utc: str, by: str
) -> None:
    """Change one status. Raises `IllegalMove`; writes nothing then."""
    row = tx.execute(_SELECT[entity], (entity_id,)).fetchone()
    if row is None:
        raise IllegalMove(f"{entity} {entity_id} does not exist")
    if to.kind not in MOVES[entity][row[0]]:
        raise IllegalMove(f"{entity} {entity_id} is {row[0]} and cannot become {to.kind}")
    data = dump(to)
    tx.execute(_UPDATE[entity], (to.kind, data, entity_id))
    tx.execute(
        "INSERT INTO transitions (entity, entity_id, from_status, to_status, data, at_utc, by)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (entity, entity_id, row[0], to.kind, data, at_utc, by),
    )


def log_created(
    tx: sqlite3.Connection, entity: Entity, ids: Sequence[int], status: str, data: str, at_utc: str, by: str
) -> None:
    """Log the first status of new rows."""
    tx.executemany(
        "INSERT INTO transitions (entity, entity_id, from_status, to_status, data, at_utc, by)"
        " VALUES (?, ?, NULL, ?, ?, ?, ?)",
        ((entity, entity_id, status, data, at_utc, by) for entity_id in ids),
    )


def begin_attempt(tx: sqlite3.Connection, run_id: int, lane: str, clock: Clock, boot_id: str, host: str) -> Attempt:
    """Queued -> Starting, with a new attempt on `lane`."""
    at_utc = utc_text(clock.utc())
    number = tx.execute("SELECT count(*) + 1 FROM attempts WHERE run_id = ?", (run_id,)).fetchone()[0]
    name, started_mono_ns = uuid.uuid4().hex, clock.monotonic_ns()
    cursor = tx.execute(
        "INSERT INTO attempts (uuid, host, run_id, number, lane, boot_id, started_utc, started_mono_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (name, host, run_id, number, lane, boot_id, at_utc, started_mono_ns),
    )
    assert cursor.lastrowid is not None
    move(tx, "run", run_id, Starting(attempt=cursor.lastrowid, lane=lane), at_utc, "daemon")
    return Attempt(cursor.lastrowid, name, run_id, number, lane, started_mono_ns)


def to_cooling(tx: sqlite3.Connection, attempt: Attempt, clock: Clock) -> None:
    """Starting -> Cooling: the engine is loaded."""
    move(tx, "run", attempt.run_id, Cooling(attempt=attempt.id, lane=attempt.lane), utc_text(clock.utc()), "daemon")


def to_running(tx: sqlite3.Connection, attempt: Attempt, clock: Clock) -> None:
    """Cooling -> Running: the gate is open."""
    move(tx, "run", attempt.run_id, Running(attempt=attempt.id, lane=attempt.lane), utc_text(clock.utc()), "daemon")


def end_ok(
    tx: sqlite3.Connection,
    attempt: Attempt,
    clock: Clock,
    verdict: Literal["VALID", "SUSPECT"],
    windows: Sequence[WindowRow],
    metrics: Sequence[MetricRow],
    findings: Sequence[FindingRow],
) -> None:
    """Running -> Done, with everything that was found, in one transaction."""
    at_utc = _close(tx, attempt.id, clock, "ok", verdict=verdict)
    _add_measurements(tx, attempt.id, windows, metrics, findings)
    move(tx, "run", attempt.run_id, Done(attempt=attempt.id, verdict=verdict), at_utc, "daemon")


def end_failed(
    tx: sqlite3.Connection,
    attempt: Attempt,
    clock: Clock,
    fault: FaultKind,
    message: str,
    detail: str,
    then: RunStatus,
    windows: Sequence[WindowRow] = (),
    metrics: Sequence[MetricRow] = (),
    findings: Sequence[FindingRow] = (),
) -> None:
    """The attempt failed; the run moves to `then`: Queued for another try, or Failed. An INVALID one keeps its figures.

    A run whose campaign was cancelled meanwhile is Cancelled instead of queued: nothing would ever take it up.
    """
    verdict = "INVALID" if fault in ("invalid", "contaminated") and windows else None
    at_utc = _close(tx, attempt.id, clock, "failed", fault, message, detail, verdict)
    _add_measurements(tx, attempt.id, windows, metrics, findings)
    move(tx, "run", attempt.run_id, _unless_cancelled(tx, attempt.run_id, then), at_utc, "daemon")


def end_without_fault(
    tx: sqlite3.Connection,
    attempt_id: int,
    run_id: int,
    clock: Clock,
    outcome: Literal["interrupted", "cancelled"],
    message: str,
    then: RunStatus,
    by: str = "daemon",
) -> None:
    """We ended the attempt ourselves, or found it ended: the run moves to `then`, as in `end_failed`."""
    at_utc = _close(tx, attempt_id, clock, outcome, message=message)
    move(tx, "run", run_id, _unless_cancelled(tx, run_id, then), at_utc, by)


def requeue(tx: sqlite3.Connection, run_id: int, clock: Clock, why: str, by: str) -> None:
    """An ended run gets another try."""
    move(tx, "run", run_id, Queued(why=why), utc_text(clock.utc()), by)


def note_facts(tx: sqlite3.Connection, attempt_id: int, facts: dict[str, Any]) -> None:
    """Merge facts into an attempt, as they become known."""
    tx.execute("UPDATE attempts SET facts = json_patch(facts, ?) WHERE id = ?", (json.dumps(facts), attempt_id))


def _unless_cancelled(tx: sqlite3.Connection, run_id: int, then: RunStatus) -> RunStatus:
    data = tx.execute(
        "SELECT c.status_data FROM runs r JOIN campaigns c ON c.id = r.campaign_id WHERE r.id = ?", (run_id,)
    ).fetchone()[0]
    campaign = campaign_status(data)
    if then.kind == "Queued" and campaign.kind == "Cancelled":
        return Cancelled(reason=campaign.reason)
    return then


def _close(
    tx: sqlite3.Connection,
    attempt_id: int,
    clock: Clock,
    outcome: Outcome,
    fault: FaultKind | None = None,
    message: str | None = None,
    detail: str | None = None,
    verdict: str | None = None,
) -> str:
    at_utc = utc_text(clock.utc())
    cursor = tx.execute(
        "UPDATE attempts SET outcome = ?, fault = ?, message = ?, detail = ?, verdict = ?, ended_utc = ?,"
        " ended_mono_ns = ? WHERE id = ? AND outcome IS NULL",
        (outcome, fault, message, detail or None, verdict, at_utc, clock.monotonic_ns(), attempt_id),
    )
    if cursor.rowcount != 1:
        raise IllegalMove(f"attempt {attempt_id} has ended already")
    return at_utc


def _add_measurements(
    tx: sqlite3.Connection,
    attempt_id: int,
    windows: Sequence[WindowRow],
    metrics: Sequence[MetricRow],
    findings: Sequence[FindingRow],
) -> None:
    tx.executemany(
        "INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (attempt_id, w.window, w.t_begin_mono_ns, w.t_end_mono_ns, w.batches, w.requests, w.tokens_in, w.tokens_out)
            for w in windows
        ),
    )
    tx.executemany(
        "INSERT INTO metrics (attempt_id, name, value, uncertainty, unit, reason) VALUES (?, ?, ?, ?, ?, ?)",
        ((attempt_id, m.name, m.value, m.uncertainty, m.unit, m.reason) for m in metrics),
    )
    tx.executemany(
        "INSERT INTO findings (attempt_id, code, severity, text) VALUES (?, ?, ?, ?)",
        ((attempt_id, f.code, f.severity, f.text) for f in findings),
    )
