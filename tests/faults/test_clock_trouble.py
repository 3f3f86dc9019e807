"""Clocks that are set, clocks that change by law, hosts that sleep and hosts that go down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from small_hours import Host, planned

NIGHT = 'hours: {from: "22:00", to: "07:00", tz: Europe/Berlin}'


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.audit_rest()
    made.store.close()


def finished(host: Host) -> bool:
    return host.campaign().status.kind == "Finished"


def findings(host: Host) -> set[str]:
    return {code for (code,) in host.rows("SELECT code FROM findings")}


@pytest.mark.parametrize("step_s", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_clock_set_by_an_hour_under_a_run_makes_it_invalid_and_it_is_tried_again(host: Host, step_s: float) -> None:
    host.script = [lambda _: None, lambda h: h.clock.set_wall(step_s)]
    host.add(planned(cycles=2))
    host.until(lambda: finished(host), "end")
    assert host.outcomes() == [("failed", "invalid"), ("ok", None), ("ok", None)]
    assert "clock_step" in findings(host)
    ((message,),) = host.rows("SELECT message FROM attempts WHERE fault = 'invalid'")
    assert "clock" in message


@pytest.mark.parametrize("step_s", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_clock_set_by_an_hour_neither_hurries_nor_holds_back_a_retry(host: Host, step_s: float) -> None:
    """The second wait of a retry is 30 s on the axis that no hand moves."""
    host.faults = ["infra", "infra"]
    host.add(planned(cycles=1))
    host.until(lambda: len(host.outcomes()) == 2, "second failure")
    failed_ns = host.clock.monotonic_ns()
    host.clock.set_wall(step_s)
    host.tick(20)
    assert len(host.outcomes()) == 2
    host.until(lambda: finished(host), "end")
    ((begun_ns,),) = host.rows("SELECT started_mono_ns FROM attempts WHERE outcome = 'ok'")
    assert 25 <= (begun_ns - failed_ns) / 1e9 <= 65
    assert host.statuses() == ["Done"]


@pytest.mark.parametrize("step_s", [3600.0, -3600.0], ids=["forward", "back"])
def test_hours_follow_the_clock_that_was_set(host: Host, step_s: float) -> None:
    host.add(planned(NIGHT, cycles=1))
    host.clock.advance(30 * 60)  # 21:30 local time; they open at 22:00
    host.tick(3)
    assert host.statuses() == ["Queued"]
    host.clock.set_wall(step_s)
    host.clock.advance(31)  # the alarm that was set has overslept; it is looked without it
    host.tick(2)
    assert (host.outcomes() != []) == (step_s > 0)
    host.until(lambda: finished(host), "end")
    assert host.begun_at()[0].hour >= 21


def test_a_schedule_whose_hour_comes_twice_by_hand_fires_once(host: Host) -> None:
    host.add(planned('schedule: "30 20 * * *"\nhours: {from: "00:00", to: "24:00", tz: UTC}', cycles=1))
    host.until(lambda: finished(host), "end")
    host.clock.set_wall(-3600)
    host.clock.advance(2 * 3600)
    host.tick(5)
    assert host.rows("SELECT count(*) FROM firings") == [(1,)]
    assert host.campaign().number == 1


@pytest.mark.parametrize(
    ("evening", "hours_of_night"),
    [(datetime(2026, 3, 28, 12, tzinfo=UTC), 8), (datetime(2026, 10, 24, 12, tzinfo=UTC), 10)],
    ids=["set forward", "set back"],
)
def test_daylight_saving_neither_runs_a_run_twice_nor_skips_one(
    tmp_path: Path, evening: datetime, hours_of_night: int
) -> None:
    """A night of an hour less or more: runs of 55 minutes, as many as fit, and each once."""
    host = Host(tmp_path, evening)
    host.run_s = 55 * 60.0
    host.add(planned(NIGHT, cycles=14))
    host.until(lambda: finished(host), "end")
    assert host.statuses() == ["Done"] * 14
    begun = host.begun_at()
    assert len(begun) == 14
    opens = begun[0]
    first_night = [moment for moment in begun if moment - opens < timedelta(hours=12)]
    assert max(first_night) - opens < timedelta(hours=hours_of_night)
    assert len(first_night) == hours_of_night, "the night is used, and its close kept"
    host.audit_rest()
    host.store.close()


@pytest.mark.parametrize(
    ("noon", "due_utc"),
    [
        (datetime(2026, 3, 28, 12, tzinfo=UTC), "2026-03-29T01:00:00.000000Z"),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), "2026-10-25T00:30:00.000000Z"),
    ],
    ids=["set forward", "set back"],
)
def test_a_schedule_in_the_hour_that_changes_fires_once(tmp_path: Path, noon: datetime, due_utc: str) -> None:
    host = Host(tmp_path, noon)
    zone = 'hours: {from: "00:00", to: "24:00", tz: Europe/Berlin}'
    host.add(planned(f'schedule: "30 2 * * *"\n{zone}', cycles=1))
    host.until(lambda: finished(host), "end")
    host.until(lambda: host.campaign().number == 2 and finished(host), "the next day's")
    assert next(due for (due,) in host.rows("SELECT due_utc FROM firings ORDER BY due_utc")) == due_utc
    assert host.rows("SELECT count(*) FROM firings") == [(2,)]
    host.audit_rest()
    host.store.close()


def test_a_host_that_slept_under_a_run_makes_it_invalid_and_it_is_tried_again(host: Host) -> None:
    host.script = [lambda _: None, lambda h: h.clock.suspend(7200)]
    host.add(planned(cycles=1))
    host.until(lambda: finished(host), "end")
    assert host.outcomes() == [("failed", "invalid"), ("ok", None)]
    assert "suspend" in " ".join(findings(host))


def test_a_host_that_slept_over_the_opening_of_its_hours_begins_when_it_wakes(host: Host) -> None:
    host.add(planned(NIGHT, cycles=1))
    host.tick(3)
    host.clock.suspend(3 * 3600)
    host.tick()
    assert host.outcomes() == [("ok", None)]


def test_a_reboot_interrupts_the_run_costs_no_retry_and_holds_none_back(host: Host) -> None:
    """Monotonic time begins anew: a deadline of the boot before is kept by the wall clock."""
    host.faults = ["infra", "infra"]
    host.add(planned("retry: {max: 2}", cycles=1))
    host.until(lambda: len(host.outcomes()) == 2, "failures")
    host.reboot(off_s=300)
    host.script = [lambda h: h.store.die()]
    host.tick(2)
    host.until(lambda: finished(host), "end")
    assert [outcome for outcome, _ in host.outcomes()] == ["failed", "failed", "interrupted", "ok"]
    boots = [boot for (boot,) in host.rows("SELECT boot_id FROM attempts ORDER BY id")]
    assert boots == ["boot-1", "boot-1", "boot-2", "boot-2"]


def test_a_reboot_into_a_wrong_clock_does_not_hold_a_pause_for_ever(host: Host) -> None:
    host.add(planned(cycles=1))
    host.ask("pause", campaign="night", for_s=3600)
    host.reboot(off_s=-1800)
    host.clock.advance(2 * 3600)
    host.tick(3)
    assert host.campaign().status.kind != "Paused"
    host.until(lambda: finished(host), "end")


def test_a_person_is_told_what_is_waited_for(host: Host) -> None:
    host.add(planned(NIGHT, cycles=1))
    host.tick(3)
    ((document,),) = host.rows("SELECT document FROM live WHERE topic = 'daemon'")
    assert json.loads(document)["waits_for"] == "night: its hours, which open Fri 27 Mar 22:00 CET"
    host.until(lambda: finished(host), "end")
