"""The forecast of a counter's ticks, on simulated counters and a clock of the test's own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import pytest

from lemctl.measure.forecast import TickForecast

MS = 1_000_000
POLL_NS = 20 * MS


@dataclass
class Watch:
    """What looking as told found: the spans in which ticks were seen, and how many looks that took."""

    spans: list[tuple[int, int]]
    looks: int
    shared: int = 0

    def widths_ms(self, skip: int = 40) -> list[float]:
        return [(end - begin) / MS for begin, end in self.spans[skip:]]


def watch(ticks_ns: list[int], forecast: TickForecast, late_ms: float = 0.1, awake_at_ms: float | None = None) -> Watch:
    """Look when the forecast says so, a little late each time, from 0 to the last tick.

    Every 100 ms at `awake_at_ms` the process is awake anyhow.
    """
    draw = random.Random(7)
    seen = Watch([], 0)
    shown = before_ns = 0
    now_ns = 0
    while now_ns < ticks_ns[-1]:
        awake_ns = None
        if awake_at_ms is not None:
            phase_ns = round(awake_at_ms * MS)
            awake_ns = phase_ns + ((now_ns - phase_ns) // (100 * MS) + 1) * 100 * MS
        look_ns = forecast.next_look_ns(now_ns, awake_ns)
        seen.shared += look_ns == awake_ns
        now_ns = look_ns + round(draw.expovariate(1 / late_ms) * MS)
        seen.looks += 1
        count = shown
        while count < len(ticks_ns) and ticks_ns[count] <= now_ns:
            count += 1
        if count > shown:
            seen.spans.append((before_ns, now_ns))
            forecast.note_tick(before_ns, now_ns)
        shown, before_ns = count, now_ns
    return seen


def ticks(period_ms: float, count: int, jitter_ms: float = 0.0, start_ms: float = 33.0) -> list[int]:
    draw = random.Random(3)
    return [round((start_ms + period_ms * n + draw.gauss(0, jitter_ms)) * MS) for n in range(count)]


@pytest.mark.parametrize("period_ms", [100.0, 97.3, 104.9])
def test_a_regular_counter_costs_few_looks_and_each_tick_is_found_more_closely_than_by_polling(
    period_ms: float,
) -> None:
    true_ns = ticks(period_ms, 600)
    seen = watch(true_ns, TickForecast(POLL_NS, 0))
    assert len(seen.spans) == len(true_ns)
    assert all(begin < tick <= end for (begin, end), tick in zip(seen.spans, true_ns, strict=True))
    assert seen.looks / len(true_ns) < 2.7
    assert sum(width <= 20.5 for width in seen.widths_ms()) / len(seen.widths_ms()) > 0.99
    assert sum(seen.widths_ms()) / len(seen.widths_ms()) < 10.0


@pytest.mark.parametrize("awake_at_ms", [18.0, 25.0, 38.0, 50.0])
def test_a_waking_near_the_tick_serves_as_a_look_and_no_tick_is_found_less_closely_than_by_polling(
    awake_at_ms: float,
) -> None:
    true_ns = ticks(100.0, 600)
    seen = watch(true_ns, TickForecast(POLL_NS, 0), awake_at_ms=awake_at_ms)
    assert all(begin < tick <= end for (begin, end), tick in zip(seen.spans, true_ns, strict=True))
    assert seen.shared / len(true_ns) > 0.75
    assert (seen.looks - seen.shared) / len(true_ns) < 1.9
    assert sum(width <= 20.5 for width in seen.widths_ms()) / len(seen.widths_ms()) > 0.99


def test_a_counter_that_strays_is_looked_at_more_and_hardly_a_tick_is_found_late() -> None:
    true_ns = ticks(100.0, 1000, jitter_ms=2.0)
    seen = watch(true_ns, TickForecast(POLL_NS, 0))
    widths = seen.widths_ms(200)
    assert sum(width <= 21.0 for width in widths) / len(widths) > 0.99
    assert seen.looks / len(true_ns) < 5.5


def test_a_counter_that_changes_its_period_is_learnt_anew() -> None:
    first = ticks(100.0, 100)
    second = [first[-1] + round(70.0 * MS * (n + 1)) for n in range(200)]
    seen = watch(first + second, TickForecast(POLL_NS, 0))
    assert len(seen.spans) >= 298
    assert max(seen.widths_ms(150)) < 21.0


def test_a_counter_faster_than_the_polls_is_polled_on_the_grid() -> None:
    forecast = TickForecast(POLL_NS, 0)
    seen = watch(ticks(15.0, 400), forecast)
    gaps = [later[1] - earlier[1] for earlier, later in pairwise(seen.spans)]
    assert max(gaps) < 45 * MS


def test_a_counter_that_stops_is_still_looked_at() -> None:
    forecast = TickForecast(POLL_NS, 0)
    watch(ticks(100.0, 40), forecast)
    now_ns = 4000 * MS
    looks = [now_ns := forecast.next_look_ns(now_ns) for _ in range(50)]
    assert max(later - earlier for earlier, later in pairwise(looks)) <= 100 * MS
    assert looks[-1] - looks[-2] == POLL_NS


def test_nothing_learnt_at_another_rate_is_trusted() -> None:
    forecast = TickForecast(POLL_NS, 0)
    watch(ticks(100.0, 40), forecast)
    forecast.forget()
    assert forecast.next_look_ns(5000 * MS) == 5020 * MS
