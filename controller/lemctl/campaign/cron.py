"""Cron expressions of five fields, in a zone: which moments they name. Pure.

Own, because the library that is our alarm clock counts Monday as 0 where cron counts Sunday, and skips or doubles what
falls into a change of clocks. Here a local time that occurs twice is due at its first occurrence, one that is passed
over is due at the change: nothing twice, nothing skipped.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from lemctl.campaign.hours import DAYS, instant

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
#: 29 February comes round at least once in these.
_LOOK_DAYS = 366 * 8
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))


@dataclass(frozen=True, slots=True)
class Cron:
    """The allowed values of each field; days of the week with 0 for Monday. Where both days are restricted, either
    suffices, as in cron."""

    minutes: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def next(self, after: datetime, zone: tzinfo) -> datetime:
        """The first due moment later than `after`, UTC."""
        day = after.astimezone(zone).date() - timedelta(days=1)
        for _ in range(_LOOK_DAYS):
            for due in self._on(day, zone):
                if due > after:
                    return due
            day += timedelta(days=1)
        raise AssertionError("an expression that never comes is refused when it is read")

    def latest(self, until: datetime, after: datetime, zone: tzinfo) -> datetime | None:
        """The last due moment in (after, until], UTC: what was slept through is due once."""
        day = until.astimezone(zone).date() + timedelta(days=1)
        first = after.astimezone(zone).date() - timedelta(days=1)
        while day >= first:
            found = [due for due in self._on(day, zone) if after < due <= until]
            if found:
                return max(found)
            day -= timedelta(days=1)
        return None

    def _on(self, day: date, zone: tzinfo) -> Iterator[datetime]:
        if self._matches(day):
            for minute in self.minutes:
                yield instant(day, minute, zone)

    def _matches(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.weekday() in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week


@functools.cache
def read_cron(text: str) -> Cron:
    """`0 22 * * 5`: minute, hour, day of the month, month, day of the week (0 or 7 Sunday, or names). Raises
    `ValueError`."""
    words = text.lower().split()
    if len(words) != len(_FIELDS):
        raise ValueError(
            "must be a cron expression of five fields: minute, hour, day of the month, month, day of the week, such as "
            '"0 22 * * 5" for Fridays at 22:00'
        )
    minutes, hours, days, months, weekdays = (_values(word, *field) for word, field in zip(words, _FIELDS, strict=True))
    cron = Cron(
        tuple(hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)),
        days,
        months,
        frozenset((day - 1) % 7 for day in weekdays),
        not words[2].startswith("*") and not words[4].startswith("*"),
    )
    if not cron.either_day and not any(cron._matches(date(2024, 1, 1) + timedelta(days=n)) for n in range(_LOOK_DAYS)):
        raise ValueError("names a day that never comes")
    return cron


def _values(word: str, name: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, name, 1, high) if slash else 1
        if span == "*":
            first, last = low, high
        else:
            first_text, dash, last_text = span.partition("-")
            first = _number(first_text, name, low, high)
            last = _number(last_text, name, low, high) if dash else high if slash else first
        if first > last:
            raise ValueError(f"{name} {part!r} ends before it begins")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int) -> int:
    if name == "month" and text in MONTHS:
        return MONTHS.index(text) + 1
    if name == "day of the week" and text in DAYS:
        return DAYS.index(text) + 1
    if not text.isdigit() or not low <= int(text) <= high:
        raise ValueError(f"{name} must be from {low} to {high}, found {text!r}")
    return int(text)
