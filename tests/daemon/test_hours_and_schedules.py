"""Hours, schedules, pauses and the breaker, on the daemon's own tick and a clock that is moved."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from lemctl.campaign.hours import instant, zone_of
from lemctl.daemon.serve import POLL_S, REST_POLL_S, RESTED_S
from lemctl.store.campaigns import begin_again, extend_campaign
from lemctl.store.read_history import past_runs
from small_hours import BEGIN, Host, planned

NIGHT = 'hours: {from: "22:00", to: "07:00", tz: UTC}'
#: Due at 22:00 in the zone of its hours, which are always.
NIGHTLY = 'schedule: "0 22 * * *"\nhours: {from: "00:00", to: "24:00", tz: UTC}'

NOTIFY = "notify: {urls_from: LEM_NOTIFY_T}"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.audit_rest()
    made.store.close()


def finished(host: Host, name: str = "night") -> bool:
    return host.campaign(name).status.kind == "Finished"


def told(host: Host) -> list[tuple[str, str, str]]:
    """Event, title and body of every message."""
    rows = host.store.connection.execute("SELECT event, title, body FROM outbox ORDER BY id")
    return [(row[0], row[1], row[2]) for row in rows]


def test_nothing_begins_before_its_hours_and_status_says_when(host: Host) -> None:
    host.add(planned(NIGHT))
    host.tick(10)
    assert host.statuses() == ["Queued"] * 3
    assert host.daemon.waits_for == "night: its hours, which open Fri 27 Mar 22:00 UTC"
    host.until(lambda: finished(host), "end")
    assert host.begun_at()[0] == BEGIN.replace(hour=22)


@pytest.mark.parametrize("why", ["hours", "engine"])
def test_a_rested_daemon_looks_less_often_until_somebody_writes(host: Host, why: str) -> None:
    """Whether it waits for its hours or, with a run in hand, for an engine that is away."""

    def pace_s() -> float:
        host.daemon.tick()
        before_ns = host.clock.monotonic_ns()
        host.daemon._sleep()
        return (host.clock.monotonic_ns() - before_ns) / 1e9

    host.engine_is_away = why == "engine"
    host.add(planned(NIGHT if why == "hours" else ""))
    host.tick(10)
    assert pace_s() == POLL_S
    host.clock.advance(RESTED_S)
    assert pace_s() == REST_POLL_S
    host.ask_only("pause", campaign="night", reason="a person's")
    assert pace_s() == POLL_S


def test_a_run_that_would_pass_the_close_is_deferred_to_the_next_night_and_none_is_dropped(host: Host) -> None:
    host.run_s = 2 * 3600.0
    host.add(planned('hours: {from: "20:00", to: "01:00", tz: UTC}', cycles=4))
    host.until(lambda: finished(host), "end")
    assert host.statuses() == ["Done"] * 4
    # Two a night once it is known how long they take: at midnight two hours no longer fit.
    nights = [moment.date() for moment in host.begun_at()]
    assert len(set(nights)) >= 2
    assert all(moment.hour in (20, 22) for moment in host.begun_at()[1:])


def test_a_run_longer_than_every_window_is_passed_over_and_said(host: Host) -> None:
    host.run_s = 3 * 3600.0
    host.script = [lambda _: None, lambda _: None, lambda h: setattr(h, "run_s", 60.0)]  # from the second load on
    host.add(planned(cycles=1, experiments=2, name="before"))
    host.until(lambda: finished(host, "before"), "end")
    host.add(planned(f'hours: {{from: "22:00", to: "23:30", tz: UTC}}\n{NOTIFY}', cycles=1, experiments=2))
    host.until(lambda: host.campaign().status.kind == "Paused", "pause")
    ((event, title, body),) = told(host)
    assert (event, title) == ("breaker", "night is paused: its runs are longer than its hours")
    assert "expected to be longer than its hours" in body
    assert "1 of 2 runs done, 1 left" in body
    assert "`lemctl campaign resume night`" in body
    assert host.statuses() == ["Queued", "Done"]
    reason = host.campaign().status.reason  # type: ignore[union-attr]
    assert "the runs of 1 experiment are expected to be longer than its hours, 22:00 to 23:30 (UTC)" in reason
    with host.store.transaction() as tx:
        extend_campaign(tx, planned(NIGHT, cycles=1, experiments=2), "", host.clock)
    assert host.ask("resume", campaign="night").exit_code == 0
    host.until(lambda: finished(host), "end within longer hours")


#: Weeknights, and the weekend from Friday evening on, across the change of clocks.
NIGHTS_AND_WEEKEND = """
hours:
- {from: "22:00", to: "07:00", days: mon-fri, tz: Europe/Berlin}
- {from: "00:00", to: "24:00", days: [sat, sun], tz: Europe/Berlin}
"""


def test_a_list_of_windows_is_worked_through_and_the_weekend_is_one_window(host: Host) -> None:
    host.run_s = 10 * 3600.0
    host.add(planned(NIGHTS_AND_WEEKEND, cycles=6))
    host.tick(3)
    assert host.daemon.waits_for == "night: its hours, which open Fri 27 Mar 22:00 CET"
    host.until(lambda: finished(host), "end")
    assert host.statuses() == ["Done"] * 6
    begun = host.begun_at()
    opens, closes = BEGIN.replace(hour=21), BEGIN.replace(day=29, hour=22)
    assert all(opens <= moment for moment in begun)
    # Ten hours fit into no weeknight: four runs in the 49 hours of this weekend, the others in the next.
    assert [moment < closes - timedelta(hours=10) for moment in begun] == [True] * 4 + [False] * 2
    assert begun[4] >= instant(date(2026, 4, 3), 22 * 60, zone_of("Europe/Berlin"))


def test_a_run_longer_than_every_window_of_a_list_is_said_with_all_of_them(host: Host) -> None:
    host.run_s = 60 * 3600.0
    host.add(planned(cycles=1, name="before"))
    host.until(lambda: finished(host, "before"), "end")
    host.add(planned(NIGHTS_AND_WEEKEND, cycles=1))
    host.until(lambda: host.campaign().status.kind == "Paused", "pause")
    reason = host.campaign().status.reason  # type: ignore[union-attr]
    said = "22:00 to 07:00 on mon-fri and 00:00 to 24:00 on sat, sun (Europe/Berlin): give it longer"
    assert said in reason


def test_a_schedule_goes_by_the_zone_of_a_list_of_windows(host: Host) -> None:
    host.add(planned('schedule: "30 22 * * 6"\n' + NIGHTS_AND_WEEKEND.strip(), cycles=1))
    host.until(lambda: host.campaign().number == 2 and finished(host), "second Saturday")
    berlin = zone_of("Europe/Berlin")
    assert [moment.astimezone(berlin).strftime("%a %d %H:%M") for moment in host.begun_at()] == [
        "Sat 28 22:30",
        "Sat 04 22:30",
    ]


def test_running_work_finishes_after_the_close(host: Host) -> None:
    host.add(planned('hours: {from: "20:00", to: "21:00", tz: UTC}', cycles=1))
    host.run_s = 5 * 3600.0
    host.until(lambda: finished(host), "end")
    assert host.outcomes() == [("ok", None)]


def test_a_campaign_begins_at_its_time(host: Host) -> None:
    host.add(planned(cycles=1), at=BEGIN + timedelta(hours=5))
    host.tick(10)
    assert host.campaign().status.kind == "Waiting"
    host.until(lambda: finished(host), "end")
    assert host.begun_at() == [BEGIN + timedelta(hours=5)]
    assert host.rows("SELECT count(*) FROM schedules WHERE ended_utc IS NULL") == [(0,)]


def test_a_schedule_begins_the_same_plan_again_and_each_due_time_counts_once(host: Host) -> None:
    host.add(planned(NIGHTLY, cycles=2))
    host.until(lambda: host.campaign().number == 3 and finished(host), "third night")
    days = [moment.strftime("%a %H:%M") for moment in host.begun_at()[::2]]
    assert days == ["Fri 22:00", "Sat 22:00", "Sun 22:00"]
    assert host.rows("SELECT count(*), count(campaign_id) FROM firings") == [(3, 3)]
    assert host.ask("cancel", campaign="night").text == "night#3 is finished; it does not begin again"
    host.clock.advance(3 * 86400)
    host.tick(3)
    assert host.campaign().number == 3


def test_a_schedule_that_is_due_while_its_campaign_goes_on_begins_nothing(host: Host) -> None:
    host.run_s = 20 * 3600.0
    host.add(planned(NIGHTLY, cycles=2))
    host.until(lambda: finished(host), "end")
    assert host.rows("SELECT count(*), count(campaign_id) FROM firings") == [(2, 1)]


def test_a_schedule_that_is_due_while_an_older_one_is_tried_again_begins_nothing(host: Host) -> None:
    host.faults = ["bad_result", "bad_result"]
    host.add(planned(NIGHTLY, cycles=2))
    host.until(lambda: host.campaign().number == 2 and finished(host), "second night")
    host.run_s = 20 * 3600.0
    assert host.ask("retry", campaign="night#1").exit_code == 0
    host.until(lambda: len(host.rows("SELECT 1 FROM firings")) == 3, "third due time")
    assert host.rows("SELECT count(*), count(campaign_id) FROM firings") == [(3, 2)]
    host.until(lambda: host.rows("SELECT DISTINCT status FROM runs") == [("Done",)], "end")


def test_due_times_that_were_slept_through_count_once(host: Host) -> None:
    host.add(planned(NIGHTLY, cycles=1))
    host.clock.advance(10 * 86400)
    host.until(lambda: finished(host), "end")
    assert host.rows("SELECT count(*) FROM firings") == [(1,)]
    assert host.campaign().number == 1


def test_a_pause_for_a_time_ends_by_itself_whatever_the_wall_clock_does(host: Host) -> None:
    host.add(planned())
    assert host.ask("pause", campaign="night", for_s=3600).text.startswith("night is paused until 2026-03-27T21:00:0")
    host.clock.set_wall(2 * 3600)
    host.clock.advance(1800)
    host.tick(300)
    assert host.campaign().status.kind == "Paused"
    host.clock.advance(1800)
    host.until(lambda: finished(host), "end")


def test_a_pause_until_an_hour_follows_the_wall_clock(host: Host) -> None:
    host.add(planned())
    until = (BEGIN + timedelta(hours=1)).isoformat()
    assert host.ask("pause", campaign="night", until_utc=until).exit_code == 0
    host.clock.set_wall(3600)
    host.clock.advance(31)
    host.until(lambda: finished(host), "end")
    assert host.clock.utc() < BEGIN + timedelta(hours=2)


def test_a_pause_for_good_replaces_one_for_a_time(host: Host) -> None:
    host.add(planned())
    host.ask("pause", campaign="night", for_s=60)
    assert host.ask("pause", campaign="night").exit_code == 0
    host.clock.advance(3600)
    host.tick(300)
    assert host.campaign().status.kind == "Paused"
    host.ask("resume", campaign="night")
    host.until(lambda: finished(host), "end")


BROKEN = "retry: {max: 0}\nbreaker: {consecutive: 2, probe: 30m}"


def test_the_breaker_probes_once_and_closes_when_the_probe_succeeds(host: Host) -> None:
    host.faults = ["engine_error"] * 2
    host.add(planned(BROKEN, cycles=6))
    host.until(lambda: host.campaign().status.kind == "Paused", "breaker")
    opened = host.clock.utc()
    host.until(lambda: finished(host), "end")
    assert host.statuses() == ["Failed"] * 2 + ["Done"] * 4
    assert host.begun_at()[2] - opened >= timedelta(minutes=29)


def test_a_probe_that_fails_opens_the_breaker_again(host: Host) -> None:
    host.faults = ["engine_error"] * 3
    host.add(planned(BROKEN, cycles=6))
    host.until(lambda: len(host.outcomes()) == 3, "probe")
    host.tick(2)
    status = host.campaign().status
    assert status.kind == "Paused"
    assert status.reason == "breaker: the probe after engine_error failed, too"
    host.until(lambda: finished(host), "end")
    assert host.statuses() == ["Failed"] * 3 + ["Done"] * 3


def test_a_persons_resume_is_a_probe_too(host: Host) -> None:
    host.faults = ["engine_error"] * 3
    host.add(planned(BROKEN.replace("30m", "0"), cycles=6))
    host.until(lambda: host.campaign().status.kind == "Paused", "breaker")
    host.clock.advance(86400)
    host.tick(300)
    assert host.campaign().status.kind == "Paused", "a probe of 0 waits for a person"
    host.ask("resume", campaign="night")
    host.until(lambda: len(host.outcomes()) == 3, "probe")
    host.tick(2)
    assert host.campaign().status.kind == "Paused"
    host.ask("resume", campaign="night")
    host.until(lambda: finished(host), "end")


def test_a_probe_that_is_to_be_retried_lets_no_other_run_through(host: Host) -> None:
    host.faults = ["infra"] * 4
    host.add(planned("retry: {max: 1}\nbreaker: {consecutive: 1, probe: 30m}", cycles=3))
    host.until(lambda: len(host.outcomes()) == 3, "probe")
    host.tick(5)
    assert (host.campaign().status.kind, len(host.outcomes())) == ("Paused", 3)
    host.until(lambda: finished(host), "end")
    assert host.statuses().count("Done") == 1


@pytest.mark.parametrize(("what", "status"), [("pause", "Paused"), ("abort", "Cancelled")])
def test_on_failure_does_what_it_says(host: Host, what: str, status: str) -> None:
    host.faults = ["engine_error"]
    host.add(planned(f"on_failure: {what}\n{NOTIFY}"))
    host.until(lambda: host.campaign().status.kind == status, status)
    assert host.statuses() == ["Failed", *(["Queued"] * 2 if what == "pause" else ["Cancelled"] * 2)]
    reason = f"a run failed with engine_error (on_failure: {what})"
    assert host.campaign().status.reason == reason  # type: ignore[union-attr]
    ((event, title, body),) = told(host)
    assert body.startswith(reason)
    if what == "pause":
        assert (event, title) == ("breaker", "night is paused after failures")
    else:
        assert (event, title) == ("finished", "night was ended after a failure")


def test_retry_takes_the_kind_of_failure_as_a_condition(host: Host) -> None:
    host.faults = ["engine_error", "bad_result"]
    host.add(planned("breaker: {consecutive: 9}"))
    host.until(lambda: finished(host), "end")
    assert host.ask("retry", campaign="night", where={"kind": "infra"}).exit_code == 7
    assert host.ask("retry", campaign="night", where={"kind": "bad_result", "backend": "replay"}).exit_code == 0
    host.until(lambda: finished(host), "end of the retry")
    assert sorted(host.statuses()) == ["Done", "Done", "Failed"]


def test_a_plan_begun_again_has_every_run_anew_and_its_history(host: Host) -> None:
    host.add(planned(cycles=2))
    host.until(lambda: finished(host), "end")
    with host.store.transaction() as tx:
        again = begin_again(tx, host.campaign(), host.clock)
    assert (again.label, again.status.kind) == ("night#2", "Waiting")
    assert host.statuses() == ["Queued"] * 2
    (newest, *_) = past_runs(host.store.connection)
    assert newest.took_s >= host.run_s
    assert newest.guess_s is not None
    host.until(lambda: finished(host), "second end")


def test_the_next_year_comes_too(host: Host) -> None:
    host.add(planned('schedule: "0 0 1 1 *"', cycles=1))
    host.until(lambda: finished(host), "end")
    assert host.begun_at()[0] == instant(date(2027, 1, 1), 0, zone_of(None))
