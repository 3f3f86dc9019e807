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
    """What looking as told found: the spans in which ticks were seen, and how many looks that took.

    `own` are the looks that cost a waking: the others came when the process was awake anyhow.
    """

    spans: list[tuple[int, int]]
    looks: int
    own: int = 0

    def widths_ms(self, skip: int = 40) -> list[float]:
        return [(end - begin) / MS for begin, end in self.spans[skip:]]

    def close(self, skip: int = 40) -> float:
        """Share of the ticks that were seen between two polls."""
        widths = self.widths_ms(skip)
        return sum(width <= 20.5 for width in widths) / len(widths)


def watch(ticks_ns: list[int], forecast: TickForecast, late_ms: float = 0.1, awake_at_ms: float = 70.0) -> Watch:
    """Look when the forecast says so, a little late each time, and every 100 ms at `awake_at_ms`; to the last tick."""
    draw = random.Random(7)
    seen = Watch([], 0)
    shown = before_ns = now_ns = 0
    phase_ns = round(awake_at_ms * MS)
    while now_ns < ticks_ns[-1]:
        awake_ns = phase_ns + ((now_ns - phase_ns) // (100 * MS) + 1) * 100 * MS
        look_ns = forecast.next_look_ns(now_ns)
        seen.own += look_ns < awake_ns
        now_ns = min(look_ns, awake_ns) + round(draw.expovariate(1 / late_ms) * MS)
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


@pytest.mark.parametrize("period_ms", [100.0, 101.3, 104.9, 120.0])
@pytest.mark.parametrize("awake_at_ms", [5.0, 18.0, 31.5, 38.0, 70.0])
def test_a_regular_counter_costs_few_wakings_and_one_tick_in_five_is_seen_closely(
    period_ms: float, awake_at_ms: float
) -> None:
    true_ns = ticks(period_ms, 600)
    seen = watch(true_ns, TickForecast(POLL_NS, 0), awake_at_ms=awake_at_ms)
    assert len(seen.spans) == len(true_ns)
    assert all(begin < tick <= end for (begin, end), tick in zip(seen.spans, true_ns, strict=True))
    assert seen.own / len(true_ns) < 0.9
    assert seen.close() >= 0.18


def test_a_counter_faster_than_the_series_still_shows_one_tick_in_five_closely() -> None:
    seen = watch(ticks(60.0, 600), TickForecast(POLL_NS, 0))
    assert seen.own / 600 < 0.75
    assert sum(width <= 20.5 for width in seen.widths_ms()) >= 0.18 * 560


def test_a_counter_that_strays_is_looked_at_more_and_hardly_a_close_tick_is_missed() -> None:
    seen = watch(ticks(100.0, 1000, jitter_ms=2.0), TickForecast(POLL_NS, 0))
    assert seen.close(200) >= 0.18
    assert seen.own / 1000 < 2.5


def test_a_counter_that_changes_its_period_is_learnt_anew() -> None:
    first = ticks(100.0, 100)
    second = [first[-1] + round(130.0 * MS * (n + 1)) for n in range(200)]
    seen = watch(first + second, TickForecast(POLL_NS, 0))
    assert len(seen.spans) == 300
    assert seen.close(150) >= 0.18
    is_close = [width <= 20.5 for width in seen.widths_ms(100)][:20]
    assert any(all(is_close[n : n + 8]) for n in range(12))


def test_a_counter_faster_than_the_polls_is_polled_on_the_grid() -> None:
    seen = watch(ticks(15.0, 400), TickForecast(POLL_NS, 0))
    gaps = [later[1] - earlier[1] for earlier, later in pairwise(seen.spans)]
    assert max(gaps) < 45 * MS


def test_a_counter_that_stops_is_still_looked_at() -> None:
    forecast = TickForecast(POLL_NS, 0)
    watch(ticks(100.0, 40), forecast)
    now_ns = 5000 * MS
    looks = [now_ns := forecast.next_look_ns(now_ns) for _ in range(50)]
    assert max(later - earlier for earlier, later in pairwise(looks)) <= POLL_NS


def test_nothing_learnt_at_another_rate_is_trusted() -> None:
    forecast = TickForecast(POLL_NS, 0)
    watch(ticks(100.0, 40), forecast)
    forecast.forget()
    assert forecast.next_look_ns(5000 * MS) == 5020 * MS
