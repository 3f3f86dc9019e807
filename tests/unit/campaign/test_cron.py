"""Cron expressions: the moments they name, with clocks that change both ways, against a plain enumeration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemctl.campaign.cron import read_cron
from lemctl.campaign.hours import zone_of

BERLIN = zone_of("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("0 22 * * 5", "2026-11-22T00:00", "2026-11-27T21:00"),  # Friday, where Sunday is 0
        ("0 22 * * fri", "2026-11-22T00:00", "2026-11-27T21:00"),
        ("30 6 * * 0", "2026-11-23T00:00", "2026-11-29T05:30"),
        ("30 6 * * 7", "2026-11-23T00:00", "2026-11-29T05:30"),
        ("*/20 22-23 1,15 * *", "2026-11-22T00:00", "2026-12-01T21:00"),
        ("0 0 1 jan *", "2026-11-22T00:00", "2026-12-31T23:00"),
        ("0 12 29 2 *", "2026-11-22T00:00", "2028-02-29T11:00"),
        ("0 22 13 * 5", "2026-11-22T00:00", "2026-11-27T21:00"),  # either day, as in cron
    ],
)
def test_the_next_due_moment(expression: str, after: str, due: str) -> None:
    assert read_cron(expression).next(utc(after), BERLIN) == utc(due)


def test_what_falls_into_the_hour_that_is_left_out_is_due_when_the_clocks_are_set() -> None:
    daily = read_cron("30 2 * * *")
    first = daily.next(utc("2026-03-28T12:00"), BERLIN)
    assert first == utc("2026-03-29T01:00")
    assert daily.next(first, BERLIN) == utc("2026-03-30T00:30")


def test_what_falls_into_the_hour_that_comes_twice_is_due_once() -> None:
    daily = read_cron("30 2 * * *")
    first = daily.next(utc("2026-10-24T12:00"), BERLIN)
    assert first == utc("2026-10-25T00:30")
    assert daily.next(first, BERLIN) == utc("2026-10-26T01:30")


def test_what_was_slept_through_is_due_once_and_the_newest_of_it() -> None:
    daily = read_cron("0 22 * * *")
    assert daily.latest(utc("2026-11-22T12:00"), utc("2026-11-01T00:00"), BERLIN) == utc("2026-11-21T21:00")
    assert daily.latest(utc("2026-11-22T12:00"), utc("2026-11-21T21:00"), BERLIN) is None


@given(
    st.sampled_from(["0 22 * * *", "30 2 * * *", "*/30 1-3 * * *", "15 4 1,28 * 2", "0 0 * 2-4 sat"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
)
def test_next_and_latest_agree_and_nothing_lies_between(expression: str, zone: str, moment: datetime) -> None:
    cron, now = read_cron(expression), moment.replace(tzinfo=UTC)
    due = cron.next(now, zone_of(zone))
    assert due > now
    assert cron.latest(due, now, zone_of(zone)) == due
    assert cron.latest(due - timedelta(seconds=1), now, zone_of(zone)) is None


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "60 * * * *", "* * * * mo", "5-1 * * * *", "*/0 * * * *", "a * * * *", "0 0 30 2 *"]
)
def test_what_is_no_cron_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"must be|ends before|never comes"):
        read_cron(expression)
