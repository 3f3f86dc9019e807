"""When runs may start: windows over midnight, on days, in zones that change their clocks both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lemctl.campaign.file import loads
from lemctl.campaign.hours import Hours, Window, describe, read_hours, zone_of
from lemctl.campaign.moments import read_moment
from lemctl.campaign.plan import plan
from lemctl.errors import CampaignFileError

EVERY_DAY = frozenset(range(7))
BERLIN = zone_of("Europe/Berlin")
NIGHT = Hours(22 * 60, 7 * 60, EVERY_DAY, BERLIN)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_window_over_midnight_is_one_night() -> None:
    night = Window(utc("2026-01-05T21:00"), utc("2026-01-06T06:00"))
    assert NIGHT.window_at(utc("2026-01-05T23:30")) == night
    assert NIGHT.window_at(utc("2026-01-05T12:00")) == night  # by day: the next one
    assert NIGHT.window_at(night.closes) == NIGHT.after(night)
    assert NIGHT.after(night).opens == utc("2026-01-06T21:00")


@pytest.mark.parametrize(
    ("evening", "length_h"),
    [("2026-03-28T20:00", 8), ("2026-10-24T19:00", 10), ("2026-06-01T19:00", 9)],
    ids=["set forward", "set back", "any night"],
)
def test_a_change_of_clocks_makes_a_night_shorter_or_longer_and_never_two(evening: str, length_h: int) -> None:
    window = NIGHT.window_at(utc(evening))
    assert window.length_s == length_h * 3600
    assert NIGHT.after(window).opens - window.opens == timedelta(hours=15 + length_h)


def test_a_window_that_opens_in_the_hour_that_is_left_out_opens_when_the_clocks_are_set() -> None:
    hours = Hours(150, 210, EVERY_DAY, BERLIN)  # 02:30 to 03:30; 02:00 becomes 03:00 at 01:00 UTC
    assert hours.window_at(utc("2026-03-29T00:00")) == Window(utc("2026-03-29T01:00"), utc("2026-03-29T01:30"))


def test_a_window_in_the_hour_that_comes_twice_opens_once() -> None:
    hours = Hours(120, 150, EVERY_DAY, BERLIN)  # 02:00 to 02:30, twice on 25 October
    first = hours.window_at(utc("2026-10-24T12:00"))
    assert first == Window(utc("2026-10-25T00:00"), utc("2026-10-25T00:30"))
    assert hours.after(first).opens == utc("2026-10-26T01:00")


def test_days_are_those_on_which_a_window_opens_and_windows_that_touch_are_one() -> None:
    weekdays = Hours(22 * 60, 7 * 60, frozenset({0, 1, 2, 3, 4}), BERLIN)
    friday = weekdays.window_at(utc("2026-11-27T22:00"))
    assert friday.closes == utc("2026-11-28T06:00")
    assert weekdays.after(friday).opens == utc("2026-11-30T21:00")
    weekend = Hours(0, 0, frozenset({5, 6}), BERLIN)
    assert weekend.window_at(utc("2026-11-27T12:00")).length_s == 48 * 3600


def test_hours_of_every_hour_are_always_open() -> None:
    always = Hours(0, 24 * 60, EVERY_DAY, BERLIN)
    assert always.longest_s(utc("2026-01-05T12:00")) > 13 * 86400


@given(
    st.integers(0, 1439), st.integers(0, 1440), st.sets(st.integers(0, 6), min_size=1),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
)  # fmt: skip
def test_windows_follow_one_another_and_open_on_their_days(
    from_min: int, to_min: int, days: set[int], zone: str, moment: datetime
) -> None:
    hours = Hours(from_min, to_min, frozenset(days), zone_of(zone))
    now = moment.replace(tzinfo=UTC)
    window = hours.window_at(now)
    assert window.closes > now
    assert window.opens < window.closes
    assume(window.length_s < 13 * 86400)  # hours that never close
    assert hours.window_at(window.closes - timedelta(seconds=1)).closes == window.closes
    following = hours.after(window)
    assert following.opens >= window.closes
    assert following.opens - window.closes <= timedelta(days=9)
    if window.opens > now:
        assert window.opens.astimezone(hours.zone).weekday() in days


BASE = "name: x\nmodel: hf:a/b\nbackend: pytorch\nworkload.dataset: random\nworkload.random.input_len: 4\n"


def test_hours_of_a_file_are_kept_as_written() -> None:
    made = plan(loads(BASE + 'hours: {from: "22:00", to: "07:00", days: fri-sun, tz: Europe/Berlin}\n'))
    assert made.document["hours"] == {
        "from": "22:00", "to": "07:00", "days": ["fri", "sat", "sun"], "tz": "Europe/Berlin"
    }  # fmt: skip
    hours = read_hours(made.document)
    assert hours is not None
    assert describe(hours) == "22:00 to 07:00 on fri, sat, sun (Europe/Berlin)"
    assert made.hash == plan(loads(BASE)).hash, "when it may run is no part of what it does"


@pytest.mark.parametrize(
    ("line", "words"),
    [
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
