"""A status changes by an allowed move or not at all, and the schema itself refuses what must not be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from build import Night, metric_rows, plan_of

from lemctl.paths import Home
from lemctl.store import moves, read_runs
from lemctl.store.campaigns import cancel_queued, close, find
from lemctl.store.moves import IllegalMove, WindowRow, begin_attempt, end_failed, end_ok, end_without_fault, move
from lemctl.store.status import MOVES, CampaignCancelled, Failed, Queued, campaign_status, run_status

AT = "2026-01-05T22:00:00.000000Z"
RUN_STATES: dict[str, dict[str, Any]] = {
    "Queued": {},
    "Starting": {"attempt": 1, "lane": "cpu"},
    "Cooling": {"attempt": 1, "lane": "cpu"},
    "Running": {"attempt": 1, "lane": "cpu"},
    "Done": {"attempt": 1, "verdict": "VALID"},
    "Failed": {"attempt": 1, "fault": "infra", "message": "x"},
    "Skipped": {"reason": "x", "because": "person"},
    "Cancelled": {"reason": "x"},
}
CAMPAIGN_STATES: dict[str, dict[str, Any]] = {
    "Waiting": {},
    "Active": {},
    "Paused": {"reason": "x"},
    "Stopped": {},
    "Finished": {},
    "Cancelled": {"reason": "x"},
}


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A database with one campaign of four runs, in line."""
    made = Night(Home(tmp_path / "home"))
    made.add(plan_of())
    yield made
    made.close()


def status(kind: str, entity: str) -> Any:
    import json

    states, parse = (RUN_STATES, run_status) if entity == "run" else (CAMPAIGN_STATES, campaign_status)
    return parse(json.dumps({"kind": kind, **states[kind]}))


def everything(night: Night) -> list[tuple[Any, ...]]:
    db = night.store.connection
    tables = ("runs", "campaigns", "attempts", "transitions", "metrics", "windows", "findings")
    return [tuple(row) for table in tables for row in db.execute(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("entity", ["run", "campaign"])
def test_the_table_of_moves_is_complete(entity: str) -> None:
    states = RUN_STATES if entity == "run" else CAMPAIGN_STATES
    assert set(MOVES[entity]) == set(states)
    assert set().union(*MOVES[entity].values()) <= set(states)


@pytest.mark.parametrize("entity", ["run", "campaign"])
def test_an_allowed_move_is_logged_and_every_other_writes_nothing(night: Night, entity: moves.Entity) -> None:
    states = RUN_STATES if entity == "run" else CAMPAIGN_STATES
    for start, to in product(states, states):
        with night.store.transaction() as tx:
            data = status(start, entity).model_dump_json(exclude_none=True)
            tx.execute(f"UPDATE {entity}s SET status = ?, status_data = ? WHERE id = 1", (start, data))
        before = everything(night)
        if to not in MOVES[entity][start]:
            text = f"{entity} 1 is {start} and cannot become {to}"
            with pytest.raises(IllegalMove, match=text), night.store.transaction() as tx:
                move(tx, entity, 1, status(to, entity), AT, "test")
            assert everything(night) == before
        else:
            with night.store.transaction() as tx:
                move(tx, entity, 1, status(to, entity), AT, "test")
            db = night.store.connection
            row = db.execute("SELECT * FROM transitions ORDER BY id DESC LIMIT 1").fetchone()
            assert (row["entity"], row["from_status"], row["to_status"], row["by"]) == (entity, start, to, "test")
            assert db.execute(f"SELECT status FROM {entity}s WHERE id = 1").fetchone()[0] == to


def test_what_does_not_exist_cannot_move(night: Night) -> None:
    with pytest.raises(IllegalMove, match="run 99 does not exist"), night.store.transaction() as tx:
        move(tx, "run", 99, Queued(), AT, "test")


def refused(night: Night, sql: str, *values: object) -> str:
    """What the schema says to a write that must not be."""
    with pytest.raises(sqlite3.IntegrityError) as error, night.store.transaction() as tx:
        tx.execute(sql, values)
    return str(error.value)


ATTEMPT = (
    "INSERT INTO attempts (uuid, host, run_id, number, lane, boot_id, started_utc, started_mono_ns, ended_utc, outcome,"
    " fault, verdict) VALUES (?, 'h', ?, ?, ?, 'b', '2026', 1, ?, ?, ?, ?)"
)


def test_two_attempts_never_share_a_lane(night: Night) -> None:
    first, second, *_ = night.runs()
    with night.store.transaction() as tx:
        begin_attempt(tx, first, "cpu", night.clock, "b", "h")
    with pytest.raises(sqlite3.IntegrityError, match=r"attempts\.lane"), night.store.transaction() as tx:
        begin_attempt(tx, second, "cpu", night.clock, "b", "h")
    assert night.store.connection.execute("SELECT status FROM runs WHERE id = ?", (second,)).fetchone()[0] == "Queued"


def test_a_run_has_one_attempt_at_a_time_and_one_result_at_most(night: Night) -> None:
    with night.store.transaction() as tx:
        tx.execute(ATTEMPT, ("a", 1, 1, "cpu", None, None, None, None))
    assert "attempts.run_id" in refused(night, ATTEMPT, "b", 1, 2, "gpu", None, None, None, None)
    with night.store.transaction() as tx:
        tx.execute("UPDATE attempts SET outcome = 'ok', verdict = 'VALID', ended_utc = '2026' WHERE uuid = 'a'")
    assert "attempts.run_id" in refused(night, ATTEMPT, "c", 1, 2, "cpu", "2026", "ok", None, "VALID")


@pytest.mark.parametrize(
    ("ended", "outcome", "fault", "verdict"),
    [
        ("2026", "ok", None, None),
        ("2026", "ok", None, "INVALID"),
        ("2026", "failed", None, None),
        ("2026", "interrupted", "infra", None),
        ("2026", "failed", "unheard_of", None),
        ("2026", "unheard_of", None, None),
        ("2026", None, None, None),
        (None, "cancelled", None, None),
    ],
)
def test_an_attempt_is_open_or_ended_with_what_belongs_to_its_outcome(
    night: Night, ended: str | None, outcome: str | None, fault: str | None, verdict: str | None
) -> None:
    assert "CHECK" in refused(night, ATTEMPT, "a", 1, 1, "cpu", ended, outcome, fault, verdict)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE runs SET status = 'Done' WHERE id = 1",
        'UPDATE runs SET status_data = \'{"kind": "Done"}\' WHERE id = 1',
        "UPDATE runs SET status_data = '{}' WHERE id = 1",
        "UPDATE campaigns SET status = 'Finished' WHERE id = 1",
        "UPDATE runs SET cycle = 0 WHERE id = 1",
        "INSERT INTO metrics (attempt_id, name, unit) VALUES (1, 'x', 'J')",
        "INSERT INTO metrics (attempt_id, name, value, unit, reason) VALUES (1, 'x', 1, 'J', 'why')",
        "INSERT INTO windows VALUES (1, 0, 10, 10, 1, 1, 1, 1)",
        "INSERT INTO baselines (kind, taken_utc) VALUES ('B0', '2026')",
        "INSERT INTO findings (attempt_id, code, severity, text) VALUES (99, 'x', 'INFO', 'x')",
        "INSERT INTO runs (campaign_id, experiment, cycle, position, axes, status, status_data)"
        " SELECT campaign_id, experiment, cycle, 9, axes, status, status_data FROM runs WHERE id = 1",
        "UPDATE transitions SET to_status = 'Done'",
        "DELETE FROM transitions",
    ],
)
def test_the_schema_refuses_what_must_not_be(night: Night, sql: str) -> None:
    night.begin(1)
    before = everything(night)
    refused(night, sql)
    assert everything(night) == before


def test_a_second_open_campaign_of_a_name_is_refused(night: Night) -> None:
    sql = (
        "INSERT INTO campaigns (uuid, host, name, number, plan_hash, document, source, executor, status, status_data,"
        " created_utc)"
        " VALUES ('u', 'h', 'demo', 2, 'x', '{}', '', 'local', 'Waiting', '{\"kind\": \"Waiting\"}', '2026')"
    )
    assert "campaigns.name" in refused(night, sql)


def test_an_attempt_ends_once(night: Night) -> None:
    attempt = night.begin(1)
    with night.store.transaction() as tx:
        end_without_fault(tx, attempt.id, 1, night.clock, "interrupted", "x", Queued())
    with pytest.raises(IllegalMove, match="has ended already"), night.store.transaction() as tx:
        end_failed(tx, attempt, night.clock, "infra", "x", "", Queued())


def test_a_result_comes_with_everything_or_not_at_all(night: Night) -> None:
    attempt = night.begin(1)
    before = everything(night)
    backwards = WindowRow(0, 10, 5, 1, 1, 1, 1)
    with pytest.raises(sqlite3.IntegrityError), night.store.transaction() as tx:
        end_ok(tx, attempt, night.clock, "VALID", [backwards], metric_rows(None), [])
    assert everything(night) == before


@pytest.mark.parametrize("how", ["failed", "interrupted"])
def test_a_run_of_a_cancelled_campaign_is_not_queued_again(night: Night, how: str) -> None:
    attempt = night.begin(1)
    with night.store.transaction() as tx:
        campaign = find(tx, "demo")
        cancel_queued(tx, campaign, "enough", night.clock, "person")
        close(tx, campaign, CampaignCancelled(reason="enough"), night.clock, "person")
        if how == "failed":
            end_failed(tx, attempt, night.clock, "infra", "x", "", Queued(why="retry after infra"))
        else:
            end_without_fault(tx, attempt.id, 1, night.clock, "interrupted", "x", Queued())
    rows = night.store.connection.execute("SELECT status, json_extract(status_data, '$.reason') FROM runs").fetchall()
    assert {tuple(row) for row in rows} == {("Cancelled", "enough")}


def test_a_persons_retry_begins_a_new_count_even_when_the_clock_steps_back(night: Night) -> None:
    for _ in range(2):
        night.fail(1, "infra", "x", retry=True)
    night.fail(1, "infra", "x")
    with night.store.transaction() as tx:
        moves.requeue(tx, 1, night.clock, "asked for", "person")
    night.clock._utc0 = night.clock._utc0.replace(year=2025)
    night.interrupt(1)
    last = night.begin(1)
    past = read_runs.past_attempts(night.store.connection, 1, last.id)
    assert [p.outcome for p in past] == ["interrupted"]
    with night.store.transaction() as tx:
        end_failed(tx, last, night.clock, "infra", "x", "", Failed(attempt=last.id, fault="infra", message="x"))
