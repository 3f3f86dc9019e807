from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import accumulate

import pytest

from lemctl.measure.baseline import (
    Baseline,
    NoBaseline,
    autocorrelations,
    combine_baselines,
    effective_sample_size,
    estimate_baseline,
)
from lemctl.measure.energy import (
    CounterEnergy,
    NoEnergy,
    SeriesEnergy,
    energy_from_counter,
    energy_from_series,
    find_tick_period_s,
    relative_difference,
    time_changes,
)
from lemctl.measure.forecast import TickForecast
from lemctl.measure.readings import CounterTick, GpuSample
from lemctl.measure.throttling import find_throttling

MS = 1_000_000
S = 1000 * MS


def poll_counter(
    energy_j: Callable[[float], float],
    from_s: float,
    to_s: float,
    tick_s: float = 0.1,
    poll_s: float = 0.02,
    seed: int = 1,
) -> list[CounterTick]:
    """What 20 ms polls see of a counter that shows, at each tick, the energy up to then in whole mJ."""
    phase = random.Random(seed)
    tick_0, poll_0 = phase.uniform(0, tick_s), phase.uniform(0, poll_s)
    ticks: list[CounterTick] = []
    last, before_ns, n = None, 0, 0
    while (now := from_s + poll_0 + n * poll_s) < to_s:
        shown = round(energy_j(math.floor((now - tick_0) / tick_s) * tick_s + tick_0) * 1000)
        now_ns = round(now * 1e9)
        if shown != last:
            ticks.append(CounterTick(now_ns, before_ns if last is not None else now_ns, shown))
        last, before_ns, n = shown, now_ns, n + 1
    return ticks


def watch_counter(
    energy_j: Callable[[float], float], from_s: float, to_s: float, tick_s: float = 0.1, seed: int = 1
) -> list[CounterTick]:
    """What the sampler's looks see of such a counter: every 100 ms, and closely around one tick in five."""
    phase = random.Random(seed)
    tick_0, awake_0 = phase.uniform(0, tick_s), phase.uniform(0, 0.1)
    forecast = TickForecast(20 * MS, round(from_s * 1e9))
    ticks: list[CounterTick] = []
    last, before_ns, now_ns = None, 0, round(from_s * 1e9)
    while now_ns < to_s * 1e9:
        awake_ns = round((math.floor((now_ns / 1e9 - awake_0) / 0.1 + 1e-6) + 1) * 1e8 + awake_0 * 1e9)
        now_ns = min(awake_ns, forecast.next_look_ns(now_ns)) + round(phase.expovariate(1e-5))
        shown = round(energy_j(math.floor((now_ns / 1e9 - tick_0) / tick_s) * tick_s + tick_0) * 1000)
        if shown != last:
            ticks.append(CounterTick(now_ns, before_ns if last is not None else now_ns, shown))
            if last is not None:
                forecast.note_tick(before_ns, now_ns)
        last, before_ns = shown, now_ns
    return ticks


def constant(t: float) -> float:
    return 90.0 * t + 600.0 * min(max(t - 5.0, 0.0), 60.0)


def stepped(t: float) -> float:
    """300 W, and 700 W in every other second."""
    whole, part = divmod(t, 2.0)
    return whole * 1000.0 + 300.0 * min(part, 1.0) + 700.0 * max(part - 1.0, 0.0)


NOISE = list(accumulate(random.Random(5).gauss(500, 60) * 0.01 for _ in range(10_000)))


def noisy(t: float) -> float:
    index = max(0.0, t / 0.01)
    low = int(index)
    return NOISE[low] + (NOISE[low + 1] - NOISE[low]) * (index - low)


@pytest.mark.parametrize("look", [poll_counter, watch_counter])
@pytest.mark.parametrize("energy_j", [constant, stepped, noisy])
@pytest.mark.parametrize(("seconds", "limit"), [(30.0, 0.002), (60.0, 0.001)])
def test_window_energy_equals_the_models_integral(
    look: Callable[..., list[CounterTick]], energy_j: Callable[[float], float], seconds: float, limit: float
) -> None:
    for seed in range(20):
        begin = 8.0 + random.Random(seed).random()
        found = energy_from_counter(
            look(energy_j, 0.5, 75.0, seed=seed), round(begin * S), round((begin + seconds) * S)
        )
        truth = energy_j(begin + seconds) - energy_j(begin)
        assert isinstance(found, CounterEnergy)
        assert found.energy_j == pytest.approx(truth, rel=limit)
        assert abs(found.energy_j - truth) < 5 * found.u_j
        assert found.period_s == pytest.approx(0.1, abs=0.011)
        assert found.ticks == pytest.approx(seconds * 10, abs=2)


def test_the_edge_error_covers_a_step_inside_the_tick() -> None:
    inside = 0
    for seed in range(300):
        draw = random.Random(seed)
        begin = 5.0 + draw.uniform(-0.1, 0.1)
        found = energy_from_counter(poll_counter(constant, 0.5, 40.0, seed=seed), round(begin * S), round(35.0 * S))
        assert isinstance(found, CounterEnergy)
        inside += abs(found.energy_j - (constant(35.0) - constant(begin))) < 1.96 * found.u_j
    assert inside >= 0.9 * 300


def test_ticks_between_far_polls_are_timed_by_the_close_ones_around_them() -> None:
    ticks = watch_counter(noisy, 0.5, 40.0, tick_s=0.1013, seed=4)
    phase = random.Random(4).uniform(0, 0.1013)
    errors_ms, claimed_ms = [], []
    for time in time_changes(ticks)[12:]:
        nearest = round((time.t_ns / 1e9 - phase) / 0.1013) * 0.1013 + phase
        errors_ms.append(abs(time.t_ns / 1e9 - nearest) * 1e3)
        claimed_ms.append(time.u_ns / MS)
    assert sum(t.t_mono_ns - t.t_before_ns > 30 * MS for t in ticks) > 0.6 * len(ticks)
    assert sum(error < 3.0 for error in errors_ms) > 0.95 * len(errors_ms)
    assert all(error < 4 * u for error, u in zip(errors_ms, claimed_ms, strict=True))


def test_a_tick_that_two_polls_missed_leaves_its_neighbours_as_uncertain_as_the_polls_saw_them() -> None:
    close = [CounterTick(n * 100 * MS + MS, n * 100 * MS - MS, n * 30_000) for n in range(12)]
    merged = CounterTick(1450 * MS, 1250 * MS, 14 * 30_000)
    after = CounterTick(1501 * MS, 1499 * MS, 15 * 30_000)
    assert time_changes([*close, merged, after])[-2].u_ns == pytest.approx(200 * MS / math.sqrt(12))


def test_a_counter_that_falls_is_a_reset() -> None:
    ticks = poll_counter(constant, 0.5, 20.0)
    fallen = [*ticks, CounterTick(21 * S, 20 * S, 5), CounterTick(22 * S, 21 * S, 9)]
    found = energy_from_counter(fallen, 5 * S, 10 * S)
    assert isinstance(found, NoEnergy)
    assert found.fault == "reset"


def test_a_counter_that_stands_still_has_no_energy_rather_than_zero() -> None:
    still = [CounterTick(t * S, (t - 1) * S, 777) for t in range(1, 30)]
    found = energy_from_counter(still, 5 * S, 10 * S)
    assert isinstance(found, NoEnergy)
    assert found.fault == "stopped"
    assert find_tick_period_s(still) is None


def test_an_edge_beyond_the_ticks_is_not_extrapolated() -> None:
    ticks = poll_counter(constant, 5.0, 20.0)
    assert isinstance(energy_from_counter(ticks, 1 * S, 10 * S), NoEnergy)
    assert isinstance(energy_from_counter(ticks, 6 * S, 20 * S), NoEnergy)
    assert isinstance(energy_from_counter([], 6 * S, 20 * S), NoEnergy)


def series(power_w: Callable[[float], float], seconds: int = 20) -> tuple[list[int], list[float | None]]:
    times = [(50 + 100 * n) * MS for n in range(seconds * 10)]
    return times, [power_w(t / S) * 1000 for t in times]


def test_the_integral_of_a_ramp_is_exact_and_its_edges_are_interpolated() -> None:
    times, powers = series(lambda t: 100.0 + 10.0 * t)
    found = energy_from_series(times, powers, 2 * S, 12 * S)
    assert isinstance(found, SeriesEnergy)
    assert found.energy_j == pytest.approx(1000 + 5 * (144 - 4), rel=1e-9)
    assert found.longest_hole_s == pytest.approx(0.1)
    assert found.period_s == pytest.approx(0.1)


def test_zero_and_unreadable_power_leave_a_hole_and_not_a_dip() -> None:
    times, powers = series(lambda t: 300.0)
    for index in range(50, 62):
        powers[index] = 0.0 if index % 2 else None
    found = energy_from_series(times, powers, 2 * S, 12 * S)
    assert isinstance(found, SeriesEnergy)
    assert found.energy_j == pytest.approx(3000.0)
    assert found.unreadable == 12
    assert found.longest_hole_s == pytest.approx(1.3)


def test_a_series_that_ends_early_shows_as_a_hole() -> None:
    times, powers = series(lambda t: 300.0, seconds=10)
    found = energy_from_series(times, powers, 2 * S, 12 * S)
    assert isinstance(found, SeriesEnergy)
    assert found.longest_hole_s == pytest.approx(2.05)
    assert isinstance(energy_from_series(times, powers, 12 * S, 14 * S), NoEnergy)


def test_counter_and_integral_are_compared_relative_to_the_counter() -> None:
    counter = CounterEnergy(1000.0, 1.0, 100, 0.1)
    assert relative_difference(counter, SeriesEnergy(940.0, 1.0, 100, 0, 0.1, 0.1)) == pytest.approx(0.06)
    assert relative_difference(NoEnergy("none"), SeriesEnergy(940.0, 1.0, 100, 0, 0.1, 0.1)) is None


def autocorrelated(n: int, phi: float, seed: int, sd: float = 1.0) -> list[float]:
    draw = random.Random(seed)
    values, last = [], draw.gauss(0, sd)
    for _ in range(n):
        last = phi * last + draw.gauss(0, sd * math.sqrt(1 - phi * phi))
        values.append(last)
    return values


def test_the_effective_sample_size_shrinks_with_autocorrelation() -> None:
    independent = [effective_sample_size(300, autocorrelations(autocorrelated(300, 0.0, seed))) for seed in range(20)]
    sticky = [effective_sample_size(300, autocorrelations(autocorrelated(300, 0.8, seed))) for seed in range(20)]
    assert sum(independent) / 20 == pytest.approx(300, rel=0.15)
    assert sum(sticky) / 20 == pytest.approx(300 * (1 - 0.8) / (1 + 0.8), rel=0.4)


def test_the_baseline_uncertainty_holds_the_truth_for_an_autocorrelated_series() -> None:
    inside = 0
    for seed in range(400):
        found = estimate_baseline([90.0 + value for value in autocorrelated(300, 0.7, seed)])
        assert isinstance(found, Baseline)
        inside += abs(found.power_w - 90.0) <= 1.96 * found.u_w
    assert inside / 400 >= 0.92


def test_a_baseline_needs_readings_and_ignores_unreadable_ones() -> None:
    assert isinstance(estimate_baseline([None, 0.0, 90.0]), NoBaseline)
    found = estimate_baseline([90.0, None, 90.5, 0.0, 91.0, 90.0, 90.5])
    assert isinstance(found, Baseline)
    assert (found.power_w, found.samples) == (90.5, 5)


def test_drift_between_two_baselines_enters_the_uncertainty() -> None:
    def at(power_w: float) -> Baseline:
        return Baseline(power_w, 0.1, 0.05, 300, 50.0)

    still = combine_baselines(at(90.0), at(90.05))
    drifted = combine_baselines(at(90.0), at(92.0))
    assert still[1] == pytest.approx(0.05 / math.sqrt(2))
    assert drifted[0] == 91.0
    assert drifted[1] == pytest.approx(2.0 / math.sqrt(12), rel=0.05)


def throttled(bits: list[int], thermal_ns: list[int] | None = None) -> tuple[list[int], list[GpuSample]]:
    times = [n * 100 * MS for n in range(len(bits))]
    counters = thermal_ns or [None] * len(bits)  # type: ignore[list-item]
    return times, [GpuSample(event_reasons=b, policy_thermal_ns=c) for b, c in zip(bits, counters, strict=True)]


def test_the_power_cap_is_no_fault_and_each_slowdown_is() -> None:
    capped = find_throttling(*throttled([0x4] * 10))
    assert (capped.power_cap_share, capped.thermal_share, capped.power_brake_share) == (1.0, 0.0, 0.0)
    for bit in (0x8, 0x20, 0x40):
        assert find_throttling(*throttled([0, bit, 0, 0])).thermal_share == 0.25
    brake = find_throttling(*throttled([0x88, 0, 0, 0]))
    assert (brake.thermal_share, brake.power_brake_share) == (0.0, 0.25)


def test_a_slowdown_between_two_samples_is_seen_by_its_counter() -> None:
    found = find_throttling(*throttled([0] * 11, [5 * MS] * 5 + [25 * MS] * 6))
    assert found.thermal_share == pytest.approx(0.02)


def test_without_counters_and_bits_throttling_is_unknown_not_absent() -> None:
    found = find_throttling([0, S], [GpuSample(), GpuSample()])
    assert (found.power_cap_share, found.thermal_share, found.power_brake_share) == (None, None, None)
