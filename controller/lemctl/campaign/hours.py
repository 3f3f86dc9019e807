"""When runs may start: a window of the local day, over midnight, on some days of the week, in a zone. Pure.

A window is one interval of real time per local day on which it begins. Where clocks are set back, a time that occurs
twice means its first occurrence; where they are set forward, a time that does not occur means the moment they were.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT_MIN = 24 * 60
#: A pattern of days repeats after a week; two more cover what a change of clocks moves.
_LOOK_DAYS = 9


@dataclass(frozen=True, slots=True)
class Window:
    """An interval in which runs may start, UTC."""

    opens: datetime
    closes: datetime

    @property
    def length_s(self) -> float:
        """Real seconds, whatever the wall clock does in between."""
        return (self.closes - self.opens).total_seconds()


@dataclass(frozen=True, slots=True)
class Hours:
    """Minutes of the local day; `to_min` at or before `from_min` means the next day. `days` are those on which a window
    begins, 0 for Monday."""

    from_min: int
    to_min: int
    days: frozenset[int]
    zone: tzinfo

    def window_at(self, now: datetime) -> Window:
        """The window that is open at `now`, else the next one. Windows that touch are one."""
        found: Window | None = None
        for window in self._from(now):
            if found is None:
                if window.closes > now:
                    found = window
            elif window.opens <= found.closes and (found.closes - found.opens).days < 14:
                found = Window(found.opens, max(found.closes, window.closes))
            else:
                break
        assert found is not None, "every week has a day on which a window begins"
        return found

    def after(self, window: Window) -> Window:
        """The next window."""
        return self.window_at(window.closes)

    def longest_s(self, now: datetime) -> float:
        """Seconds of the longest window of the coming week."""
        longest_s, window = 0.0, self.window_at(now)
        until = now + timedelta(days=_LOOK_DAYS)
        while window.opens < until:
            longest_s = max(longest_s, window.length_s)
            window = self.after(window)
        return longest_s

    def _from(self, now: datetime) -> Iterator[Window]:
        """Windows in order, from the day before `now` on; those without a length are left out."""
        first = now.astimezone(self.zone).date() - timedelta(days=2)
        span_days = 1 if self.to_min <= self.from_min else 0
        for n in range(2 + 2 * _LOOK_DAYS):
            day = first + timedelta(days=n)
            if day.weekday() in self.days:
                opens = instant(day, self.from_min, self.zone)
                closes = instant(day + timedelta(days=span_days), self.to_min, self.zone)
                if opens < closes:
                    yield Window(opens, closes)


def read_hours(document: Mapping[str, Any]) -> Hours | None:
    """The hours of a normalised campaign; None where it has none. Raises `ValueError` for a zone that is not here."""
    hours = document.get("hours")
    if hours is None:
        return None
    days = frozenset(DAYS.index(day) for day in hours["days"])
    return Hours(minutes(hours["from"]), minutes(hours["to"]), days, zone_of(hours["tz"]))


def minutes(text: str) -> int:
    """`22:00` -> 1320; `24:00` is the day's end. Raises `ValueError`."""
    hour, colon, minute = text.partition(":")
    if not (colon and hour.isdigit() and minute.isdigit() and len(hour) == len(minute) == 2):
        raise ValueError("must be a time of the day such as 22:00")
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > MIDNIGHT_MIN:
        raise ValueError("must be a time of the day, 00:00 to 24:00")
    return value


@functools.cache
def zone_of(name: str | None) -> tzinfo:
    """The zone of an IANA name; the host's own for None. Raises `ValueError`."""
    if name is None:
        return _host_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}; names are those of IANA, such as Europe/Berlin or UTC") from None


def _host_zone() -> tzinfo:
    import tzlocal

    return tzlocal.get_localzone()


def instant(day: date, minute: int, zone: tzinfo) -> datetime:
    """The moment, UTC, at which the clocks of `zone` first show that minute of `day`, or pass over it."""
    naive = datetime.combine(day, time()) + timedelta(minutes=minute)
    before = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if before.astimezone(zone).replace(tzinfo=None) == naive:
        return before
    # Clocks are set forward over it: `before` is late by the gap, the other reading early by it.
    low, high = naive.replace(tzinfo=zone, fold=1).astimezone(UTC), before
    offset = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
    return high.replace(microsecond=0)


def describe(hours: Hours) -> str:
    """`22:00 to 07:00 on mon, tue (Europe/Berlin)`."""
    days = "" if len(hours.days) == len(DAYS) else " on " + ", ".join(DAYS[day] for day in sorted(hours.days))
    return f"{_clock(hours.from_min)} to {_clock(hours.to_min)}{days} ({hours.zone})"


def local_text(moment: datetime, zone: tzinfo) -> str:
    """`Fri 27 Nov 22:00 CET`."""
    return moment.astimezone(zone).strftime("%a %d %b %H:%M %Z")


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
