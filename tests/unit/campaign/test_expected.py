"""How long runs are expected to take, what that rests on, and how many nights are left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lemctl.campaign.expected import GUESS_LOAD_S, Durations, Expected, PastRun, what_is_left
from lemctl.campaign.hours import Hours, Span, zone_of

NOW = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)
NIGHT = Hours((Span(22 * 60, 7 * 60, frozenset(range(7))),), zone_of("UTC"))


def past(
    *rest_s: float, experiment: str = "e", guess_s: float | None = 100.0, load_s: float | None = None
) -> Durations:
    return Durations(PastRun(experiment, "vllm", "m", rest, load_s, guess_s) for rest in rest_s)


def test_without_history_the_guess_is_stated_as_one() -> None:
    assert Durations([]).run("e", "vllm", "m", 100.0) == Expected(100.0, 200.0, "guess")
    assert Durations([]).load("vllm", "m").p50_s == GUESS_LOAD_S


def test_its_like_scales_the_guess() -> None:
    known = past(150.0, experiment="other").run("e", "vllm", "m", 200.0)
    assert known == Expected(300.0, pytest.approx(375.0), "like")
    assert past(150.0, experiment="other").run("e", "pytorch", "m", 200.0).ground == "guess"


def test_its_own_results_come_first() -> None:
    few = past(10.0, 12.0, 11.0).run("e", "vllm", "m", 100.0)
    assert few == Expected(11.0, pytest.approx(12.1), "measured")
    many = past(*map(float, range(1, 101))).run("e", "vllm", "m", 100.0)
    assert many == Expected(50.5, pytest.approx(90.1), "measured")


def test_loading_is_added_where_an_engine_is_loaded() -> None:
    known = past(*[10.0] * 20, load_s=30.0)
    assert known.whole("e", "vllm", "m", 1.0, True).p50_s == 40.0
    assert known.whole("e", "vllm", "m", 1.0, False).p50_s == 10.0


def test_errors_of_guesses_add_up_and_the_scatter_of_measured_runs_partly_cancels() -> None:
    guessed = what_is_left([("e", Expected(100.0, 200.0, "guess"))] * 4, None, NOW)
    assert (guessed.p50_s, guessed.p90_s, guessed.grounds["guess"]) == (400.0, 800.0, 4)
    measured = what_is_left([("e", Expected(100.0, 110.0, "measured"))] * 4, None, NOW)
    assert measured.p90_s == pytest.approx(420.0)
    assert measured.ends_p50 == NOW + timedelta(seconds=400)
    assert measured.windows_p50 is None


def test_nights_are_counted_by_what_fits_into_them() -> None:
    run = ("e", Expected(3600.0, 3600.0, "measured"))
    left = what_is_left([run] * 20, NIGHT, NOW)
    assert (left.windows_p50, left.windows_p90) == (3, 3)
    assert left.ends_p50 == datetime(2026, 1, 8, 0, 0, tzinfo=UTC)
    begun_by_day = what_is_left([run] * 9, NIGHT, NOW - timedelta(hours=5))
    assert (begun_by_day.windows_p50, begun_by_day.ends_p50) == (1, datetime(2026, 1, 6, 7, 0, tzinfo=UTC))


def test_nights_of_a_list_are_its_windows_and_end_on_the_clock_of_its_zone() -> None:
    berlin = zone_of("Europe/Berlin")
    weeknights, weekend = Span(22 * 60, 7 * 60, frozenset(range(5))), Span(0, 24 * 60, frozenset({5, 6}))
    left = what_is_left([("e", Expected(3600.0, 3600.0, "measured"))] * 50, Hours((weeknights, weekend), berlin), NOW)
    # From Monday 23:00: 8 hours of that night, 9 of each of the next three, 15 of the 50 from Friday evening on.
    assert left.windows_p50 == 5
    assert f"{left.ends_p50:%a %H:%M %Z}" == "Sat 13:00 CET"


def test_no_run_is_counted_into_a_night_whose_close_its_90th_percentile_passes() -> None:
    left = what_is_left([("e", Expected(3 * 3600.0, 4 * 3600.0, "measured"))] * 3, NIGHT, NOW)
    assert left.windows_p50 == 2  # 22:00, 01:00; at 04:00 four hours do not fit


def test_a_run_longer_than_every_window_is_named_and_the_others_are_counted() -> None:
    long, short = ("long", Expected(36000.0, 40000.0, "guess")), ("short", Expected(60.0, 90.0, "guess"))
    left = what_is_left([long, short, long], NIGHT, NOW)
    assert left.too_long == [("long", 40000.0)]
    assert left.windows_p50 == 1
    assert what_is_left([long], NIGHT, NOW).ends_p50 is None


def test_nothing_left_is_no_night() -> None:
    left = what_is_left([], NIGHT, NOW)
    assert (left.p50_s, left.windows_p50) == (0.0, 0)
