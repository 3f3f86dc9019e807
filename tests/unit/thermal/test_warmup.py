from __future__ import annotations

from lemctl.measure.readings import Reading
from lemctl.thermal.warmup import Capped, KeepWarming, Steady, WarmupSettings, decide_warmup

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
