"""When runs may start: windows over midnight, on days, in zones that change their clocks both ways."""

from __future__ import annotations

import functools
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemctl.campaign.file import loads
from lemctl.campaign.hours import Hours, Span, Window, describe, read_hours, zone_name, zone_of
from lemctl.campaign.moments import read_moment
from lemctl.campaign.plan import plan
from lemctl.errors import CampaignFileError

EVERY_DAY = frozenset(range(7))
BERLIN = zone_of("Europe/Berlin")


def every(from_min: int, to_min: int, days: frozenset[int] = EVERY_DAY) -> Hours:
    return Hours((Span(from_min, to_min, days),), BERLIN)


NIGHT = every(22 * 60, 7 * 60)
#: Weeknights, and the weekend from Friday evening on.
NIGHTS_AND_WEEKEND = Hours((Span(22 * 60, 7 * 60, frozenset(range(5))), Span(0, 24 * 60, frozenset({5, 6}))), BERLIN)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def after(hours: Hours, window: Window) -> Window:
    return hours.window_at(window.closes)


def test_a_window_over_midnight_is_one_night() -> None:
    night = Window(utc("2026-01-05T21:00"), utc("2026-01-06T06:00"))
    assert NIGHT.window_at(utc("2026-01-05T23:30")) == night
    assert NIGHT.window_at(utc("2026-01-05T12:00")) == night  # by day: the next one
    assert after(NIGHT, night).opens == utc("2026-01-06T21:00")


@pytest.mark.parametrize(
    ("evening", "length_h"),
    [("2026-03-28T20:00", 8), ("2026-10-24T19:00", 10), ("2026-06-01T19:00", 9)],
    ids=["set forward", "set back", "any night"],
)
def test_a_change_of_clocks_makes_a_night_shorter_or_longer_and_never_two(evening: str, length_h: int) -> None:
    window = NIGHT.window_at(utc(evening))
    assert window.length_s == length_h * 3600
    assert after(NIGHT, window).opens - window.opens == timedelta(hours=15 + length_h)


def test_a_window_that_opens_in_the_hour_that_is_left_out_opens_when_the_clocks_are_set() -> None:
    hours = every(150, 210)  # 02:30 to 03:30; 02:00 becomes 03:00 at 01:00 UTC
    assert hours.window_at(utc("2026-03-29T00:00")) == Window(utc("2026-03-29T01:00"), utc("2026-03-29T01:30"))


def test_a_window_in_the_hour_that_comes_twice_opens_once() -> None:
    hours = every(120, 150)  # 02:00 to 02:30, twice on 25 October
    first = hours.window_at(utc("2026-10-24T12:00"))
    assert first == Window(utc("2026-10-25T00:00"), utc("2026-10-25T00:30"))
    assert after(hours, first).opens == utc("2026-10-26T01:00")


def test_days_are_those_on_which_a_window_opens_and_windows_that_touch_are_one() -> None:
    weekdays = every(22 * 60, 7 * 60, frozenset({0, 1, 2, 3, 4}))
    friday = weekdays.window_at(utc("2026-11-27T22:00"))
    assert friday.closes == utc("2026-11-28T06:00")
    assert after(weekdays, friday).opens == utc("2026-11-30T21:00")
    weekend = every(0, 0, frozenset({5, 6}))
    assert weekend.window_at(utc("2026-11-27T12:00")).length_s == 48 * 3600


def test_weeknights_and_the_weekend_are_five_windows_a_week() -> None:
    begin = utc("2026-11-23T12:00")
    week = list(islice(NIGHTS_AND_WEEKEND.windows(begin), 6))
    assert [window.length_s / 3600 for window in week] == [9, 9, 9, 9, 50, 9]
    weekend = Window(utc("2026-11-27T21:00"), utc("2026-11-29T23:00"))
    assert week[4] == weekend
    assert NIGHTS_AND_WEEKEND.window_at(utc("2026-11-29T11:00")) == weekend, "on its last day it began on Friday, too"
    assert NIGHTS_AND_WEEKEND.longest_s(begin) == 50 * 3600


def test_a_break_in_the_hour_that_is_left_out_is_none_that_week() -> None:
    hours = Hours(
        (Span(0, 135, frozenset({6})), Span(165, 1440, frozenset({6})), Span(0, 1440, frozenset(range(6)))), BERLIN
    )  # always, but not on Sundays from 02:15 to 02:45
    window = hours.window_at(utc("2026-03-31T12:00"))
    assert window == Window(utc("2026-03-22T01:45"), utc("2026-04-05T00:15"))
    assert not hours.never_close


def test_a_window_in_the_hour_that_is_left_out_is_looked_for_two_weeks_on() -> None:
    hours = every(135, 165, frozenset({6}))
    now = utc("2026-03-22T12:00")
    assert hours.window_at(now).opens == utc("2026-04-05T00:15")
    assert hours.longest_s(now) == 1800, "or every run would be longer than its hours"


@pytest.mark.parametrize(
    "spans",
    [
        (Span(0, 24 * 60, EVERY_DAY),),
        (Span(7 * 60, 22 * 60, EVERY_DAY), Span(22 * 60, 7 * 60, EVERY_DAY)),
        (Span(22 * 60, 22 * 60, EVERY_DAY),),
    ],
)
def test_hours_of_every_hour_are_always_open(spans: tuple[Span, ...]) -> None:
    always, now = Hours(spans, BERLIN), utc("2026-01-05T12:00")
    assert always.never_close
    assert always.longest_s(now) >= 366 * 86400
    first, second = islice(always.windows(now), 2)
    assert first.opens == now
    assert second.opens == first.closes


#: A zone and the midnight, UTC, of a day near a change of its clocks: by an hour, by half of one, at midnight, by a
#: whole day; and some that are never set.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25"), ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"), ("Australia/Lord_Howe", "2026-04-05"), ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Santiago", "2026-04-05"), ("America/Santiago", "2026-09-06"), ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kathmandu", "2026-05-01"), ("UTC", "2026-12-31"),
]  # fmt: skip
AROUND_DAYS = 24
DAY_MIN = 24 * 60


@functools.cache
def clock_of(zone: str, day: str) -> tuple[datetime, list[datetime]]:
    """The first of the minutes around a day, and what the clock has shown at most by each of them."""
    begin = utc(day) - timedelta(days=AROUND_DAYS)
    local = (
        (begin + timedelta(minutes=n)).astimezone(zone_of(zone)).replace(tzinfo=None)
        for n in range(2 * AROUND_DAYS * DAY_MIN)
    )
    return begin, list(accumulate(local, max))


def open_minutes(hours: Hours, shown: list[datetime]) -> bytes:
    """For every minute whether runs may start, by walking every day and window."""
    marks = bytearray(len(shown))
    day = shown[0].replace(hour=0, minute=0) - timedelta(days=2)
    while day < shown[-1]:
        for span in hours.spans:
            if day.weekday() in span.days:
                opens, closes = day + timedelta(minutes=span.from_min), day + timedelta(minutes=span.to_min)
                while closes <= opens:
                    closes += timedelta(days=1)
                first, last = bisect_left(shown, opens), bisect_left(shown, closes)
                marks[first:last] = b"\1" * (last - first)
        day += timedelta(days=1)
    return bytes(marks)


MINUTES = st.one_of(st.integers(0, 1440), st.sampled_from([0, 60, 120, 135, 150, 165, 180, 1320, 1439, 1440]))
SPANS = st.builds(
    Span, st.integers(0, 1439) | MINUTES, MINUTES, st.frozensets(st.integers(0, 6), min_size=1) | st.just(EVERY_DAY)
)


@settings(deadline=None)
@given(
    st.lists(SPANS, min_size=1, max_size=5), st.sampled_from(CHANGES),
    st.integers(-3 * DAY_MIN, 3 * DAY_MIN), st.integers(0, 59),
)  # fmt: skip
@example([Span(1320, 420, EVERY_DAY)], CHANGES[0], DAY_MIN - 90, 0)  # on a Monday, and open since Sunday
@example([Span(135, 165, EVERY_DAY)], CHANGES[0], -1, 59)  # the next one has no length
@example([Span(1320, 420, EVERY_DAY), Span(0, 60, frozenset({0}))], CHANGES[2], 3 * DAY_MIN + 720, 0)  # at a close
def test_windows_are_those_of_a_walk_over_every_minute(
    spans: list[Span], change: tuple[str, str], moment_min: int, second: int
) -> None:
    zone, day = change
    hours = Hours(tuple(spans), zone_of(zone))
    begin, shown = clock_of(zone, day)
    marks = open_minutes(hours, shown)
    at_min = AROUND_DAYS * DAY_MIN + moment_min
    found = hours.windows(begin + timedelta(minutes=at_min, seconds=second))
    if hours.never_close:
        assert marks.count(1) == len(marks)
        return
    is_open = marks[at_min] == 1
    first = marks.rfind(0, 0, at_min) + 1 if is_open else marks.find(1, at_min)
    walked = []
    while first != -1 and (last := marks.find(0, first)) != -1:
        walked.append(Window(begin + timedelta(minutes=first), begin + timedelta(minutes=last)))
        first = marks.find(1, last)
    assert walked
    assert list(islice(found, len(walked))) == walked


BASE = "name: x\nmodel: hf:a/b\nbackend: pytorch\nworkload.dataset: random\nworkload.random.input_len: 4\n"


ZONED = '{from: "22:00", to: "07:00", days: mon-thu, tz: Europe/Berlin}'


def read(line: str) -> dict[str, Any]:
    return plan(loads(BASE + line + "\n", "f.yaml")).document


def test_hours_of_a_file_are_kept_as_written() -> None:
    made = plan(loads(BASE + 'hours: {from: "22:00", to: "07:00", days: fri-sun, tz: Europe/Berlin}\n'))
    assert made.document["hours"] == {
        "from": "22:00", "to": "07:00", "days": ["fri", "sat", "sun"], "tz": "Europe/Berlin"
    }  # fmt: skip
    hours = read_hours(made.document)
    assert hours is not None
    assert describe(hours) == "22:00 to 07:00 on fri-sun (Europe/Berlin)"
    assert made.hash == plan(loads(BASE)).hash, "when it may run is no part of what it does"


def test_a_list_of_windows_is_kept_as_a_list_and_is_no_part_of_what_a_campaign_does() -> None:
    line = f'hours: [{ZONED}, {{from: "00:00", to: "24:00", days: [sun, sat], tz: Europe/Berlin}}]\n'
    made = plan(loads(BASE + line))
    assert [(one["from"], one["days"]) for one in made.document["hours"]] == [
        ("22:00", ["mon", "tue", "wed", "thu"]),
        ("00:00", ["sat", "sun"]),
    ]
    hours = read_hours(made.document)
    assert hours is not None
    assert describe(hours) == "22:00 to 07:00 on mon-thu and 00:00 to 24:00 on sat, sun (Europe/Berlin)"
    assert hours.window_at(utc("2026-11-27T12:00")) == Window(utc("2026-11-27T23:00"), utc("2026-11-29T23:00"))
    assert made.hash == plan(loads(BASE)).hash


def test_days_are_told_as_they_may_be_written() -> None:
    assert (
        describe(every(0, 60, frozenset({0, 1, 3, 4, 5, 6}))) == "00:00 to 01:00 on mon, tue, thu-sun (Europe/Berlin)"
    )


def test_a_list_of_one_window_says_what_the_window_says() -> None:
    assert read_hours(read(f"hours: [{ZONED}]")) == read_hours(read(f"hours: {ZONED}"))


@pytest.mark.parametrize(
    ("line", "zone"),
    [
        ("", None),
        ('hours: {from: "22:00", to: "07:00"}', None),
        ('hours: [{from: "22:00", to: "07:00"}, {from: "12:00", to: "13:00"}]', None),
        (f"hours: {ZONED}", "Europe/Berlin"),
        (f"hours: [{ZONED}, {ZONED}]", "Europe/Berlin"),
    ],
)
def test_a_schedule_takes_its_zone_from_the_hours_in_either_form(line: str, zone: str | None) -> None:
    assert zone_name(read(line)) == zone


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            f'hours: [{ZONED}, {{from: "12:00", to: "13:00"}}]',
            r"f.yaml:6: hours\[1\].tz: windows of one list share one zone, found Europe/Berlin and the host's zone: "
            "write the same `tz` in each window, or in none",
        ),
        (f'hours: [{ZONED}, {{from: "12:00", to: "13:00", tz: UTC}}]', r"hours\[1\].tz: .* Europe/Berlin and UTC"),
        ("hours: []", "must have at least one window; without the key runs may start at any time"),
        ("hours: [" + ", ".join([ZONED] * 201) + "]", "hours: must have at most 200 windows"),
        ('hours: ["22:00"]', r"hours\[0\]: must be a mapping"),
        ("hours: 22:00-07:00", "must be a window such as .*, or a list of windows, found the text"),
        (f'hours: [{ZONED}, {{from: "22:00"}}]', r"hours\[1\].to: this key is required"),
        (f'hours: [{ZONED}, {{from: "22:00", to: "7:00"}}]', r"hours\[1\].to: must be a time of the day"),
        (
            f'hours: [{ZONED}, {{from: "22:00", to: "07:00", on: fri}}]',
            r"hours\[1\].on: unknown key.* \(allowed: from, to",
        ),
        ('hours: {from: "25:00", to: "07:00"}', "00:00 to 24:00"),
        ("hours: {from: 22, to: 7}", "such as 22:00"),
        ('hours: {from: "22:00", to: "07:00", tz: Europe/Berln}', "no time zone 'Europe/Berln'"),
        ('hours: {from: "22:00", to: "07:00", days: [mo]}', "must be days such as"),
        ('hours: {from: "22:00"}', "hours.to"),
        ('schedule: "0 22 * *"', "five fields"),
        ('schedule: "0 25 * * *"', "hour must be from 0 to 23"),
        ('schedule: "0 22 31 2 *"', "never comes"),
        ("on_failure: stop", "abort"),
    ],
)
def test_what_is_no_hour_is_refused_in_its_line(line: str, words: str) -> None:
    with pytest.raises(CampaignFileError, match=words) as caught:
        loads(BASE + line + "\n", "f.yaml")
    assert caught.value.line == 6


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("22:00", "2026-10-24T20:00"),
        ("12:00", "2026-10-25T11:00"),  # tomorrow, after the clocks were set back
        ("2026-11-27T22:00", "2026-11-27T21:00"),
        ("2026-11-27 22:00:30", "2026-11-27T21:00:30"),
        ("2026-11-27T22:00+05:00", "2026-11-27T17:00"),
    ],
)
def test_a_typed_time_is_the_next_such_moment(text: str, moment: str) -> None:
    assert read_moment(text, utc("2026-10-24T12:00"), BERLIN) == utc(moment)


@pytest.mark.parametrize("text", ["", "soon", "2026-11-27", "99:99", "2026-10-24T01:00"])
def test_a_typed_time_that_is_none_or_has_passed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|passed"):
        read_moment(text, utc("2026-10-24T12:00"), BERLIN)
