"""A moment as a person types it: `22:00`, `2026-11-27 22:00`, or with its offset. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from lemctl.campaign.hours import instant, minutes


def read_moment(text: str, now: datetime, zone: tzinfo) -> datetime:
    """The moment, UTC. A time of the day alone is the next such time in `zone`; a date and time without an offset are
    of `zone`. Raises `ValueError` for another form and for what has passed."""
    moment = _time_alone(text, now, zone) or _date_and_time(text, zone)
    if moment is None:
        raise ValueError("must be a time such as 22:00, or a date and time such as 2026-11-27T22:00")
    if moment <= now:
        raise ValueError(f"has passed: it is {now.astimezone(zone):%Y-%m-%dT%H:%M} now")
    return moment


def _time_alone(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    if len(text) != len("22:00"):
        return None
    minute, today = minutes(text), now.astimezone(zone).date()
    days = (today + timedelta(days=n) for n in range(3))
    return next(moment for day in days if (moment := instant(day, minute, zone)) > now)


def _date_and_time(text: str, zone: tzinfo) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) <= len("2026-11-27"):
        return None
    if found.tzinfo is not None:
        return found.astimezone(UTC)
    second = timedelta(seconds=found.second)
    return instant(found.date(), found.hour * 60 + found.minute, zone) + second
