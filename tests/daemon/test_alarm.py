"""The alarm clock that the daemon really has, APScheduler's: it rings when it is set for, wakes the daemon, and across
both changes of the clocks every due time of a schedule begins one campaign, none two."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apscheduler.schedulers import base
from apscheduler.schedulers.background import BackgroundScheduler

from lemctl.clock import SystemClock, utc_text
from lemctl.daemon import serve
from lemctl.daemon.alarm import SchedulerAlarm
from lemctl.store import campaigns, schedules
from lemctl.store.database import Store
from night import Night, campaign_text
from small_hours import Host, planned

CEILING_S = 20.0


def now_and(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
def alarm() -> Iterator[SchedulerAlarm]:
    made = SchedulerAlarm(threading.Event())
    yield made
    made.close()


def rings(alarm: SchedulerAlarm) -> bool:
    """Whether it wakes its daemon in the end; then it has rung, once."""
    if not alarm._wake.wait(CEILING_S):
        return False
    alarm._wake.clear()
    assert alarm.has_rung()
    assert not alarm.has_rung()
    return True


def test_it_rings_once_and_not_before_its_time(alarm: SchedulerAlarm) -> None:
    at = now_and(0.5)
    alarm.set(at)
    assert rings(alarm)
    assert datetime.now(UTC) >= at
    assert not alarm._wake.wait(0.2)


def test_a_time_that_is_over_rings_at_once(alarm: SchedulerAlarm) -> None:
    alarm.set(now_and(-86400))
    assert rings(alarm)


def test_the_newest_time_counts_and_none_is_silence(alarm: SchedulerAlarm) -> None:
    alarm.set(now_and(3600))
    alarm.set(now_and(0.1))
    assert rings(alarm), "an earlier time than the one it was set for"
    alarm.set(now_and(1.0))
    alarm.set(None)
    assert not alarm._wake.wait(1.5)
    alarm.set(now_and(0.1))
    assert rings(alarm), "it can be set again"


def test_the_same_time_again_is_no_second_ring(alarm: SchedulerAlarm) -> None:
    at = now_and(0.3)
    for _ in range(5):
        alarm.set(at)
    assert rings(alarm)
    assert not alarm._wake.wait(0.3)


def test_a_closed_alarm_leaves_no_thread_and_never_rings() -> None:
    alarm, before = SchedulerAlarm(threading.Event()), set(threading.enumerate())
    alarm.set(now_and(0.5))
    (thread,) = set(threading.enumerate()) - before
    alarm.close()
    thread.join(CEILING_S)
    assert not thread.is_alive()
    assert not alarm._wake.wait(0.7)


def test_the_alarm_alone_wakes_a_daemon(tmp_path: Path) -> None:
    """A real one, that never looks for what is due unless it rings."""
    with Night(tmp_path, constants={"lemctl.daemon.serve.LOOK_AGAIN_S": 1e9}) as night:
        Store.open(night.home, "write").close()
        night.wait_until_serving(night.begin().pid)
        text = campaign_text(more='hours: {from: "00:00", to: "24:00", tz: UTC}')
        due = now_and(4.0)
        schedule(night, text, due)
        assert night.campaign() == "Waiting"
        night.wait_campaign()
        ((fired,), (begun,)) = night.rows("SELECT fired_utc FROM firings UNION ALL SELECT started_utc FROM attempts")
        assert utc_text(due) <= fired <= begun
        assert night.end() == 0
        night.audit()


def schedule(night: Night, text: str, at: datetime) -> None:
    """Put a campaign in the line that begins then."""
    from lemctl.engines.prefetch import prefetch

    what = night.plan(text)
    prefetch(what, night.settings, "local", lambda step: None)
    clock = SystemClock()
    with Store.open(night.home, "write") as store:
        host = store.host_id()
        with store.transaction() as tx:
            added = campaigns.add_campaign(tx, what, text, "local", clock, host)
            schedules.add(tx, added.campaign.id, what.name, clock, at_utc=utc_text(at))


class AlarmedHost(Host):
    """One whose daemons have the real alarm, on a wall clock that the test moves."""

    alarm: SchedulerAlarm | None = None

    def __init__(self, folder: Path, begin: datetime, rounds: threading.Semaphore):
        self._rounds = rounds
        super().__init__(folder, begin)

    def start(self) -> None:
        super().start()
        self.close()
        self.alarm = self.daemon.alarm = SchedulerAlarm(self.daemon.wake)

    def close(self) -> None:
        if self.alarm is not None:
            self.alarm.close()

    def be(self, moment: datetime) -> None:
        """It is `moment`, and the scheduler has looked at the clock."""
        assert self.alarm is not None
        self.clock.set_wall((moment - self.clock.utc()).total_seconds())
        while self._rounds.acquire(blocking=False):
            pass
        self.alarm._scheduler.wakeup()
        assert self._rounds.acquire(timeout=CEILING_S), "the scheduler does not look"

    def rest(self) -> None:
        """Ticks until nothing more can begin."""
        for _ in range(500):
            self.tick()
            if self.daemon.is_at_rest:
                return
        raise AssertionError(f"no rest; the daemon waits for {self.daemon.waits_for}")


MakeHost = Callable[[datetime], AlarmedHost]


@pytest.fixture
def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHost]:
    """The scheduler reads the host's clock, and only its ring leads to a look for what is due."""
    made: list[AlarmedHost] = []
    rounds, whole = threading.Semaphore(0), BackgroundScheduler._process_jobs

    class Moved(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return made[0].clock.utc().astimezone(tz)

    def process(scheduler: BackgroundScheduler) -> Any:
        try:
            return whole(scheduler)
        finally:
            rounds.release()

    def make(begin: datetime) -> AlarmedHost:
        made.append(AlarmedHost(tmp_path, begin, rounds))
        return made[0]

    monkeypatch.setattr(base, "datetime", Moved)
    monkeypatch.setattr(BackgroundScheduler, "_process_jobs", process)
    monkeypatch.setattr(serve, "LOOK_AGAIN_S", 1e12)
    yield make
    for host in made:
        host.audit_rest()
        host.close()
        host.store.close()


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York"])
def zone_of_the_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the host's own clock shows is none of a schedule's business that names a zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


FORWARD, BACK = datetime(2026, 3, 27, 12, tzinfo=UTC), datetime(2026, 10, 23, 12, tzinfo=UTC)


@pytest.mark.usefixtures("zone_of_the_host")
@pytest.mark.parametrize(
    ("begin", "cron", "due"),
    [
        (FORWARD, "30 2 * * *", ["28 01:30", "29 01:00", "30 00:30"]),
        (BACK, "30 2 * * *", ["24 00:30", "25 00:30", "26 01:30"]),
        (FORWARD, "0 22 * * *", ["27 21:00", "28 21:00", "29 20:00"]),
        (BACK, "0 22 * * *", ["23 20:00", "24 20:00", "25 21:00"]),
        (FORWARD, "*/30 1-3 29 * *", ["29 00:00", "29 00:30", "29 01:00", "29 01:30"]),
        (BACK, "*/30 1-3 25 * *", ["24 23:00", "24 23:30", "25 00:00", "25 00:30", "25 02:00", "25 02:30"]),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_across_a_change_of_clocks_no_due_time_is_skipped_and_none_begins_two(
    make_host: MakeHost, begin: datetime, cron: str, due: list[str]
) -> None:
    """Berlin's clocks, written down in UTC. The daemon is killed once between two due times."""
    moments = [datetime.fromisoformat(f"{begin:%Y-%m}-{text}+00:00") for text in due]
    host = make_host(begin)
    host.run_s = 60.0
    host.add(planned(f'schedule: "{cron}"\nhours: {{from: "00:00", to: "24:00", tz: Europe/Berlin}}', cycles=1))
    host.rest()
    for number, moment in enumerate(moments):
        host.be(moment - timedelta(seconds=1))
        assert not host.daemon.wake.is_set(), f"it rang before {moment}"
        host.tick()
        assert len(host.begun_at()) == number
        host.be(moment)
        assert host.daemon.wake.wait(CEILING_S), f"it did not ring at {moment}"
        host.rest()
        assert len(host.begun_at()) == number + 1
        if number == 1:
            host.kill()
            host.rest()
    assert [moment for (moment,) in host.rows("SELECT due_utc FROM firings")] == [utc_text(m) for m in moments]
    began = host.rows("SELECT c.number, r.status FROM runs r JOIN campaigns c ON c.id = r.campaign_id ORDER BY r.id")
    assert began == [(number + 1, "Done") for number in range(len(moments))]
    assert host.outcomes() == [("ok", None)] * len(moments)
