"""When things begin by themselves: schedules that are due, pauses that are over, hours that are open.

The decisions are functions of moments and rows; what is due is answered in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lemctl.campaign.cron import read_cron
from lemctl.campaign.hours import Hours, local_text, zone_of
from lemctl.clock import Clock, Deadline, utc_text
from lemctl.lines import duration
from lemctl.store import campaigns, queue, schedules
from lemctl.store.database import Transaction
from lemctl.store.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing begins now, and when to look again."""

    why: str
    again: datetime


def held_by_hours(hours: Hours, now: datetime, need_s: float) -> Hold | None:
    """What keeps a run that may need `need_s` (its 90th percentile) from beginning now; None within its hours."""
    windows = hours.windows(now)
    window = next(windows)
    if now < window.opens:
        return Hold(f"its hours, which open {local_text(window.opens, hours.zone)}", window.opens)
    left_s = (window.closes - now).total_seconds()
    if need_s <= left_s:
        return None
    opens = next(windows).opens
    why = (
        f"its hours: the next run may take {duration(need_s)} and they close in {duration(left_s)};"
        f" they open again {local_text(opens, hours.zone)}"
    )
    return Hold(why, opens)


def due(schedule: Schedule, now: datetime) -> datetime | None:
    """The newest moment up to `now` at which the schedule is due and not answered; what was slept through counts
    once."""
    if schedule.at_utc is not None:
        at = datetime.fromisoformat(schedule.at_utc)
        return at if at <= now else None
    assert schedule.cron is not None
    return read_cron(schedule.cron).latest(now, schedule.since, zone_of(schedule.tz))


def next_due(schedule: Schedule, now: datetime) -> datetime:
    """When it fires next."""
    if schedule.at_utc is not None:
        return datetime.fromisoformat(schedule.at_utc)
    assert schedule.cron is not None
    return read_cron(schedule.cron).next(max(now, schedule.since), zone_of(schedule.tz))


def begin_what_is_due(tx: Transaction, clock: Clock) -> datetime | None:
    """Answer every schedule and every pause whose time has come; when the next one's does."""
    _fire_due(tx, clock)
    _end_pauses(tx, clock)
    return next_alarm(tx, clock)


def _fire_due(tx: Transaction, clock: Clock) -> None:
    """Begin the campaigns whose time has come: the first time the one that waits for it, later the same plan again. One
    that has not ended by then goes on instead."""
    for schedule in schedules.in_force(tx):
        moment = due(schedule, clock.utc())
        if moment is None or not schedules.fire(tx, schedule, utc_text(moment), clock):
            continue
        if not schedule.has_fired:
            schedules.note_begun(tx, schedule, utc_text(moment), schedule.campaign_id)
        elif not campaigns.is_name_open(tx, schedule.name):
            again = campaigns.begin_again(tx, campaigns.by_id(tx, schedule.campaign_id), clock)
            schedules.note_begun(tx, schedule, utc_text(moment), again.id)


def _end_pauses(tx: Transaction, clock: Clock) -> None:
    """Put campaigns whose pause is over back in the line."""
    for campaign, deadline in queue.paused_until(tx):
        if deadline.left_s(clock) <= 0:
            campaigns.reopen(tx, campaign, clock, "daemon")


def next_alarm(tx: Transaction, clock: Clock) -> datetime | None:
    """When a schedule or the end of a pause wants to be looked at; None where there is neither."""
    now = clock.utc()
    moments = [next_due(schedule, now) for schedule in schedules.in_force(tx)]
    moments += [moment_of(deadline, clock) for _, deadline in queue.paused_until(tx)]
    return min(moments, default=None)


def moment_of(deadline: Deadline, clock: Clock) -> datetime:
    """The deadline on today's wall clock."""
    return clock.utc() + timedelta(seconds=deadline.left_s(clock))


def earliest(moments: Iterable[datetime | None]) -> datetime | None:
    """The first of those that there are."""
    return min((moment for moment in moments if moment is not None), default=None)
