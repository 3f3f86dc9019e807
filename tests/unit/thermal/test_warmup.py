from __future__ import annotations

from lemctl.measure.readings import Reading
from lemctl.thermal.warmup import Capped, KeepWarming, Steady, WarmupSettings, decide_warmup, find_unsteady

STEADY_LATENCIES = [1.5, 1.0, 1.01, 1.0, 0.99, 1.0]
SETTINGS = WarmupSettings()


def gpu(slope_c_per_s: float = 0.0, clocks_mhz: tuple[float, ...] = (1755.0,)) -> dict[str, list[Reading]]:
    return {
        "g": [
            Reading(t * 10**9, 60.0 + slope_c_per_s * t, 500.0, 1.0, clocks_mhz[t % len(clocks_mhz)]) for t in range(60)
        ]
    }


def test_all_three_quiet_means_steady() -> None:
    assert isinstance(decide_warmup(STEADY_LATENCIES, gpu(), 60.0, SETTINGS), Steady)


def test_what_still_moves_is_named() -> None:
    latency = decide_warmup([1.0, 1.2, 0.9, 1.0, 1.1], gpu(), 60.0, SETTINGS)
    heating = decide_warmup(STEADY_LATENCIES, gpu(slope_c_per_s=0.06), 60.0, SETTINGS)
    clocks = decide_warmup(STEADY_LATENCIES, gpu(clocks_mhz=(1755.0, 1500.0)), 60.0, SETTINGS)
    for decision, word in ((latency, "latency"), (heating, "temperature"), (clocks, "clock")):
        assert isinstance(decision, KeepWarming)
        assert word in decision.reason


def test_too_few_batches_or_seconds_are_not_steady() -> None:
    assert isinstance(decide_warmup([1.0] * 4, gpu(), 60.0, SETTINGS), KeepWarming)
    assert isinstance(decide_warmup(STEADY_LATENCIES, gpu(), 20.0, SETTINGS), KeepWarming)
    assert isinstance(decide_warmup(STEADY_LATENCIES, {}, 20.0, WarmupSettings(min_s=30.0)), KeepWarming)


def test_the_cap_ends_it_and_says_what_moved() -> None:
    decision = decide_warmup(STEADY_LATENCIES, gpu(slope_c_per_s=0.2), 180.0, SETTINGS)
    assert isinstance(decision, Capped)
    assert "temperature" in decision.reason


def test_a_missing_sensor_is_not_waited_for() -> None:
    blind = {"g": [Reading(t * 10**9, None) for t in range(60)]}
    assert isinstance(decide_warmup(STEADY_LATENCIES, blind, 60.0, SETTINGS), Steady)


def unsteady(readings: dict[str, list[Reading]], begin_s: int = 20, end_s: int = 55) -> tuple[str, ...]:
    return find_unsteady(readings, begin_s * 10**9, end_s * 10**9, SETTINGS)


def test_a_window_that_began_steady_has_nothing_against_it() -> None:
    assert unsteady(gpu()) == ()


def test_a_window_that_began_while_the_gpu_heated_is_told() -> None:
    (moves,) = unsteady(gpu(slope_c_per_s=0.06))
    assert "temperature" in moves


def test_heat_after_the_windows_first_seconds_is_the_windows_own() -> None:
    late = {"g": [Reading(t * 10**9, 60.0 + max(0, t - 35), 500.0, 1.0, 1755.0) for t in range(60)]}
    assert unsteady(late) == ()


def test_clocks_of_the_warm_up_are_not_the_windows() -> None:
    settled = {"g": [Reading(t * 10**9, 60.0, 500.0, 1.0, 1500.0 if t < 20 else 1755.0) for t in range(60)]}
    assert unsteady(settled) == ()
    (moves,) = unsteady(gpu(clocks_mhz=(1755.0, 1500.0)))
    assert "clock" in moves


def test_what_was_watched_too_briefly_is_not_judged() -> None:
    assert unsteady(gpu(slope_c_per_s=0.5, clocks_mhz=(1755.0, 1500.0)), begin_s=2, end_s=6) == ()
    assert unsteady({"g": []}) == ()
    assert unsteady({"g": [Reading(t * 10**9, None) for t in range(60)]}) == ()
