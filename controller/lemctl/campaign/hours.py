"""When runs may start: windows of the local day, over midnight, on some days of the week, in a zone. Pure.

A window is one interval of real time per local day on which it begins; those that overlap or touch are one. Where
clocks are set back, a time that occurs twice means its first occurrence; where they are set forward, a time that does
not occur means the moment they were. So a later time of the clock is never an earlier moment: windows are joined by the
clock first, then placed in real time.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import chain, count, groupby, takewhile
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT_MIN = 24 * 60
_WEEK_MIN = len(DAYS) * MIDNIGHT_MIN
#: A pattern of days repeats after a week; two days more cover what a change of clocks moves.
_LOOK_DAYS = 9
#: How long hours without a break are said to be open: longer than any run.
_ALWAYS = timedelta(days=366)


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
class Span:
    """Minutes of the local day; `to_min` at or before `from_min` means the next day. `days` are those on which it
    begins, 0 for Monday."""

    from_min: int
    to_min: int
    days: frozenset[int]


@dataclass(frozen=True, slots=True)
class Hours:
    """All spans of a campaign, as written, and the zone whose clocks they go by."""

    spans: tuple[Span, ...]
    zone: tzinfo

    @property
    def never_close(self) -> bool:
        """Whether the spans leave no minute of the week out."""
        ((begins, ends), *_) = _week(self.spans)
        return ends - begins >= _WEEK_MIN

    def windows(self, now: datetime) -> Iterator[Window]:
        """The window that is open at `now`, else the next one, and without end those that follow it."""
        if self.never_close:
            yield from (Window(now + n * _ALWAYS, now + (n + 1) * _ALWAYS) for n in count())
        found: Window | None = None
        for window in self._from(now):
            if found is not None and window.opens <= found.closes:
                found = Window(found.opens, window.closes)
                continue
            if found is not None and found.closes > now:
                yield found
            found = window

    def window_at(self, now: datetime) -> Window:
        """The window that is open at `now`, else the next one."""
        return next(self.windows(now))

    def longest_s(self, now: datetime) -> float:
        """Seconds of the longest window of the coming week; of the next one where that week has none."""
        until, windows = now + timedelta(days=_LOOK_DAYS), self.windows(now)
        first = next(windows)
        return max(one.length_s for one in chain([first], takewhile(lambda one: one.opens < until, windows)))

    def _from(self, now: datetime) -> Iterator[Window]:
        """Intervals in order, from the one that began last on, or from the first that is joined to it without a break;
        those without a length are left out."""
        week, clock = _week(self.spans), now.astimezone(self.zone)
        monday = clock.date() - timedelta(days=clock.weekday())

        def interval(number: int) -> Window:
            weeks, place = divmod(number, len(week))
            begins, ends = (instant(monday + timedelta(weeks=weeks), minute, self.zone) for minute in week[place])
            return Window(begins, ends)

        minute = clock.weekday() * MIDNIGHT_MIN + clock.hour * 60 + clock.minute
        number = bisect_right(week, minute, key=lambda one: one[0]) - 1
        while interval(number - 1).closes >= interval(number).opens:
            number -= 1
        yield from (window for window in map(interval, count(number)) if window.opens < window.closes)


@functools.lru_cache(maxsize=64)
def _week(spans: tuple[Span, ...]) -> tuple[tuple[int, int], ...]:
    """Spans as intervals in minutes after Monday 00:00 by the clock, in order, joined where they overlap or touch. The
    last may reach into the week that follows; a single one of a whole week never closes."""
    joined: list[tuple[int, int]] = []
    for begins, ends in sorted(_intervals(spans)):
        if joined and begins <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(ends, joined[-1][1])
        else:
            joined.append((begins, ends))
    while len(joined) > 1 and joined[0][0] + _WEEK_MIN <= joined[-1][1]:
        _, ends = joined.pop(0)
        joined[-1] = joined[-1][0], max(joined[-1][1], ends + _WEEK_MIN)
    if joined[0][0] + _WEEK_MIN <= joined[0][1]:
        return ((0, _WEEK_MIN),)
    return tuple(joined)


def _intervals(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    for span in spans:
        length_min = (span.to_min - span.from_min) % MIDNIGHT_MIN or MIDNIGHT_MIN
        for day in span.days:
            begins = (day * MIDNIGHT_MIN + span.from_min) % _WEEK_MIN
            yield begins, begins + length_min


def read_hours(document: Mapping[str, Any]) -> Hours | None:
    """The hours of a normalised campaign; None where it has none. Raises `ValueError` for a zone that is not here."""
    written = _written(document)
    if not written:
        return None
    spans = tuple(
        Span(minutes(one["from"]), minutes(one["to"]), frozenset(DAYS.index(day) for day in one["days"]))
        for one in written
    )
    return Hours(spans, zone_of(zone_name(document)))


def zone_name(document: Mapping[str, Any]) -> str | None:
    """The zone that the hours of a normalised campaign name, which is also that of its schedule and of times typed for
    it; None for the host's."""
    return next((one["tz"] for one in _written(document)), None)


def _written(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The windows of a normalised campaign: one mapping where the file has one, a list where it has a list."""
    hours = document.get("hours") or ()
    return [hours] if isinstance(hours, Mapping) else hours


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
    """`22:00 to 07:00 on mon-fri and 00:00 to 24:00 on sat, sun (Europe/Berlin)`."""
    return f"{' and '.join(_words(span) for span in hours.spans)} ({hours.zone})"


def _words(span: Span) -> str:
    days = "" if len(span.days) == len(DAYS) else " on " + ", ".join(_stretches(span.days))
    return f"{_clock(span.from_min)} to {_clock(span.to_min)}{days}"


def _stretches(days: frozenset[int]) -> Iterator[str]:
    """Days in order, three or more in a row as `mon-fri`."""
    for _, row in groupby(enumerate(sorted(days)), lambda placed: placed[1] - placed[0]):
        names = [DAYS[day] for _, day in row]
        yield from names if len(names) < 3 else [f"{names[0]}-{names[-1]}"]


def local_text(moment: datetime, zone: tzinfo) -> str:
    """`Fri 27 Nov 22:00 CET`."""
    return moment.astimezone(zone).strftime("%a %d %b %H:%M %Z")


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
