"""Reading the database: counts, names, the line, the last runs, results, exports, history. On real files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from build import FIGURES, NO_GPU, Night, plan_of

from lemctl.errors import NotFound
from lemctl.paths import Home
from lemctl.store.campaigns import find, settle
from lemctl.store.database import Store
from lemctl.store.queries import campaign_document, find_campaign, line_of_campaigns, list_campaigns
from lemctl.store.read_history import past_runs
from lemctl.store.read_results import EXPORT_COLUMNS, campaign_results, export_rows, log_places, run_in_full
from lemctl.store.read_status import ended_since, faults, last_runs, last_transition, run_lines


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    found = Night(Home(tmp_path / "home"))
    yield found
    found.close()


@pytest.fixture
def mixed(night: Night) -> Night:
    """demo: a VALID result, a failure, a SUSPECT result after an INVALID attempt, one queued."""
    night.add(plan_of())
    night.activate()
    first, second, third, _ = night.runs()
    night.finish(first, took_s=10.0)
    night.fail(second, "engine_error", "it broke", "Traceback")
    night.fail(third, "invalid", "counter reset", retry=True)
    night.finish(third, "SUSPECT", took_s=20.0)
    return night


def test_counts_hold_every_run_once(mixed: Night) -> None:
    row = find_campaign(mixed.store.connection, "demo")
    assert (row.total, row.left) == (4, 1)
    assert {status: count for status, count in row.counts.items() if count} == {"Queued": 1, "Done": 2, "Failed": 1}


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 3)])
def test_the_exit_code_of_a_campaign_tells_of_failed_runs(night: Night, fails: bool, code: int) -> None:
    night.add(plan_of(batch_sizes=(1,), cycles=1))
    night.activate()
    (run,) = night.runs()
    if fails:
        night.fail(run, "engine_error", "it broke")
    else:
        night.finish(run)
    assert find_campaign(night.store.connection, "demo").exit_code == code


def test_a_name_means_its_newest_campaign_and_a_number_an_older_one(night: Night) -> None:
    for _ in range(2):
        night.add(plan_of(batch_sizes=(1,), cycles=1))
        night.activate()
        night.finish(night.runs()[0])
        with night.store.transaction() as tx:
            settle(tx, find(tx, "demo"), night.clock)
    connection = night.store.connection
    assert find_campaign(connection, "demo").label == "demo#2"
    assert find_campaign(connection, "demo#1").number == 1
    assert find_campaign(connection, None).label == "demo#2"
    with pytest.raises(NotFound, match="there are demo"):
        find_campaign(connection, "demo#3")


def test_the_line_is_the_order_in_which_campaigns_run(night: Night) -> None:
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        night.add(plan_of(name), priority=priority)
    connection = night.store.connection
    assert [row.name for row in line_of_campaigns(connection)] == ["high", "first", "second", "low"]
    night.activate()
    night.add(plan_of("higher"), priority=9)
    assert [row.name for row in line_of_campaigns(connection)][:2] == ["high", "higher"]
    assert [row.name for row in list_campaigns(connection, 2)] == ["higher", "high"]


def test_the_file_is_kept_as_it_was_written(night: Night) -> None:
    added = night.add(plan_of())
    document, source = campaign_document(night.store.connection, added.campaign.id)
    assert (document["preset"], source) == ("quick-test", "name: demo\n")


def test_last_runs_are_the_attempts_that_ended_newest_first(mixed: Night) -> None:
    lines = last_runs(mixed.store.connection, 3, ("output_tokens_per_s",))
    assert [(line.run, line.attempt, line.verdict, line.fault) for line in lines] == [
        (3, 2, "SUSPECT", None),
        (3, 1, "INVALID", "invalid"),
        (2, 1, None, "engine_error"),
    ]
    assert lines[0].took_s == pytest.approx(20.0)
    assert lines[0].figures == {"output_tokens_per_s": 80.0}
    assert lines[2].figures == {"output_tokens_per_s": None}


@pytest.mark.parametrize(
    ("conditions", "runs"),
    [
        ({}, [4, 3, 2, 1]),
        ({"status": "Done"}, [3, 1]),
        ({"verdict": "SUSPECT"}, [3]),
        ({"run": 2}, [2]),
        ({"backend": "pytorch"}, []),
        ({"limit": 1}, [4]),
    ],
)
def test_runs_are_found_by_condition(mixed: Night, conditions: dict[str, object], runs: list[int]) -> None:
    assert [line.run for line in run_lines(mixed.store.connection, (), **conditions)] == runs  # type: ignore[arg-type]


def test_runs_are_found_by_the_beginning_of_their_experiment(mixed: Night) -> None:
    (one,) = run_lines(mixed.store.connection, (), run=1)
    found = run_lines(mixed.store.connection, (), experiment=one.experiment[:6])
    assert [line.run for line in found] == [3, 1]


def test_only_what_ended_since_the_last_look_is_told(mixed: Night) -> None:
    connection = mixed.store.connection
    seen = last_transition(connection)
    assert ended_since(connection, 1, seen, ()) == ([], seen)
    mixed.finish(4)
    (line,), newest = ended_since(connection, 1, seen, ())
    assert (line.run, line.status) == (4, "Done")
    assert newest > seen
    assert ended_since(connection, 99, 0, ())[0] == []


def test_faults_are_counted_by_kind_with_the_newest_run(night: Night) -> None:
    night.add(plan_of())
    night.activate()
    for run, fault in zip(night.runs(), ("silent", "engine_error", "silent", "silent"), strict=True):
        night.fail(run, fault, f"message of {run}")  # type: ignore[arg-type]
    found = faults(night.store.connection, 1)
    assert [(one.fault, one.count, one.newest_run, one.message) for one in found] == [
        ("silent", 3, 4, "message of 4"),
        ("engine_error", 1, 2, "message of 2"),
    ]


def test_results_carry_the_figures_of_the_attempt_that_succeeded(mixed: Night) -> None:
    results = campaign_results(mixed.store.connection, 1, None)
    assert [(one.run, one.status, one.verdict, one.invalid) for one in results] == [
        (1, "Done", "VALID", 0),
        (2, "Failed", None, 0),
        (3, "Done", "SUSPECT", 1),
        (4, "Queued", None, 0),
    ]
    assert set(results[0].figures) == {*FIGURES, "energy_per_output_token"}
    energy = results[0].figures["energy_per_output_token"]
    assert (energy.value, energy.reason) == (None, NO_GPU)
    assert results[1].figures == {}
    assert (results[1].fault, results[1].message) == ("engine_error", "it broke")


def test_a_run_in_full_replays_to_its_status(mixed: Night) -> None:
    run = run_in_full(mixed.store.connection, 3)
    assert [attempt["outcome"] for attempt in run["attempts"]] == ["failed", "ok"]
    assert run["transitions"][-1]["to_status"] == run["status"]["kind"] == "Done"
    assert run["attempts"][1]["findings"][0]["code"] == "warmup_capped"
    assert len(run["attempts"][1]["windows"]) == 1
    with pytest.raises(NotFound):
        run_in_full(mixed.store.connection, 99)


def test_an_export_loses_no_attempt(mixed: Night) -> None:
    rows = [dict(zip(EXPORT_COLUMNS, row, strict=True)) for row in export_rows(mixed.store.connection, None)]
    metrics = len(FIGURES) + 1
    assert len(rows) == 3 * metrics + 1
    (failed,) = [row for row in rows if row["fault"] == "engine_error"]
    assert failed["metric"] is None
    assert list(export_rows(mixed.store.connection, 99)) == []


def test_logs_are_those_of_the_newest_attempt_unless_one_is_named(mixed: Night) -> None:
    assert log_places(mixed.store.connection, 3, None)["number"] == 2
    assert log_places(mixed.store.connection, 3, 1)["message"] == "counter reset"
    with pytest.raises(NotFound, match="has no attempt 7"):
        log_places(mixed.store.connection, 3, 7)
    with pytest.raises(NotFound, match="has no attempt yet"):
        log_places(mixed.store.connection, 4, None)


def test_history_holds_results_alone_and_loading_only_where_it_was_paid(mixed: Night) -> None:
    past = past_runs(mixed.store.connection)
    assert len(past) == 2
    assert [run.phases_s["loading_s"] for run in past] == [None, 1.5]
    assert past[0].phases_s["measuring_s"] == 3.2


def test_everything_is_read_through_a_connection_that_cannot_write(mixed: Night) -> None:
    with Store.open(mixed.store.home, "read") as store:
        assert find_campaign(store.connection, "demo").total == 4
        with pytest.raises(Exception, match="readonly"):
            store.connection.execute("DELETE FROM live")
