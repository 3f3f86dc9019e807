from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from lemctl.measure.readings import Reading
from lemctl.thermal.curve import fit_asymptote, fit_slope
from lemctl.thermal.gate import Cool, GateSettings, GiveUp, GpuHistory, Reference, Wait, decide
from lemctl.thermal.loop import GateCancelled, pass_gate
from lemctl.thermal.reference import LearningSettings, estimate_reference, learn

COOL = GateSettings()
SETTLED = Reference(35.0, 0.3, power_w=90.0)


def readings(
    temp_c: Callable[[float], float], seconds: int = 40, power_w: float | None = 90.0, busy: float = 0.0
) -> list[Reading]:
    return [Reading(t * 10**9, temp_c(t), power_w, busy) for t in range(seconds)]


def cooling(
    start_c: float, tau_s: float, idle_c: float = 35.0, noise_c: float = 0.3, seed: int = 1
) -> Callable[[float], float]:
    noise = random.Random(seed)
    return lambda t: float(round(idle_c + (start_c - idle_c) * math.exp(-t / tau_s) + noise.gauss(0, noise_c)))


def gate(
    history: list[Reading], reference: Reference | None = SETTLED, waited_s: float = 40.0, **change: object
) -> object:
    return decide({"g": GpuHistory(history, reference)}, waited_s, replace(COOL, **change))  # type: ignore[arg-type]


def test_a_gpu_at_its_reference_may_start() -> None:
    decision = gate(readings(lambda _: 36.0))
    assert isinstance(decision, Cool)
    assert decision.start_state == "cool"
    assert decision.temps_c == {"g": 36.0}


@pytest.mark.parametrize(
    ("history", "says"),
    [
        (readings(lambda _: 38.0), "waiting for 37.0 C"),
        (readings(lambda t: 39.0 - 0.1 * t), "cooling at 6.0 C/min"),
        (readings(lambda _: 36.0, power_w=94.0), "94 W, idle is 90 W"),
        (readings(lambda _: 36.0, busy=0.02), "busy"),
        (readings(lambda _: 36.0, seconds=20), "watching the temperature"),
    ],
)
def test_each_obstacle_holds_the_gate_and_is_named(history: list[Reading], says: str) -> None:
    decision = gate(history)
    assert isinstance(decision, Wait)
    assert says in decision.reason


def test_power_within_the_larger_of_3_percent_and_3_watts_passes() -> None:
    assert isinstance(gate(readings(lambda _: 36.0, power_w=92.9)), Cool)
    hot_idle = Reference(35.0, 0.3, power_w=200.0)
    assert isinstance(gate(readings(lambda _: 36.0, power_w=205.9), hot_idle), Cool)


def test_a_wait_says_down_to_which_temperature_as_far_as_that_is_known() -> None:
    waiting = gate(readings(lambda _: 60.0))
    assert isinstance(waiting, Wait)
    assert waiting.targets_c == {"g": 37.0}
    unknown = gate(readings(lambda _: 60.0)[:3], None)
    assert isinstance(unknown, Wait)
    assert unknown.targets_c == {}


def test_the_cap_gives_up_and_marks_the_start_warm() -> None:
    decision = gate(readings(lambda _: 60.0), waited_s=300.0)
    assert isinstance(decision, GiveUp)
    assert decision.start_state == "warm"
    assert "waiting for 37.0 C" in decision.reason


def test_the_remaining_time_is_guessed_from_the_cooling_curve() -> None:
    decision = gate(readings(cooling(75.0, 45.0), seconds=60), waited_s=60.0)
    assert isinstance(decision, Wait)
    truth_s = 45.0 * math.log(40.0 / 2.0) - 60.0
    assert decision.remaining_s == pytest.approx(truth_s, abs=25.0)


def test_without_a_reference_it_waits_until_the_curve_tells_where_it_settles() -> None:
    early = gate(readings(cooling(80.0, 45.0), seconds=40), reference=None)
    assert isinstance(early, Wait)
    late = gate(readings(cooling(80.0, 45.0), seconds=200), reference=None, waited_s=200.0)
    assert isinstance(late, Cool)


def test_without_a_reference_a_settled_gpu_may_start() -> None:
    assert isinstance(gate(readings(lambda _: 41.0), reference=None), Cool)


def test_the_hottest_gpu_of_a_lane_decides() -> None:
    pair = {"a": GpuHistory(readings(lambda _: 36.0), SETTLED), "b": GpuHistory(readings(lambda _: 50.0), SETTLED)}
    decision = decide(pair, 40.0, COOL)
    assert isinstance(decision, Wait)
    assert "GPU b" in decision.reason
    assert "GPU a" not in decision.reason


def test_without_a_sensor_cooling_becomes_the_fixed_gap_and_says_so() -> None:
    blind = {"g": GpuHistory([Reading(0, None)])}
    waiting = decide(blind, 20.0, COOL)
    assert isinstance(waiting, Wait)
    assert waiting.remaining_s == 40.0
    assert "no temperature sensor" in waiting.reason
    done = decide(blind, 60.0, COOL)
    assert isinstance(done, Cool)
    assert done.start_state == "fixed"
    assert done.temps_c == {"g": None}


def test_a_host_without_gpus_waits_the_fixed_gap() -> None:
    assert isinstance(decide({}, 59.0, COOL), Wait)
    assert isinstance(decide({}, 60.0, COOL), Cool)


def test_steady_and_none_wait_for_nothing() -> None:
    for kind in ("steady", "none"):
        decision = gate(readings(lambda _: 80.0), kind=kind)
        assert isinstance(decision, Cool)
        assert decision.start_state == "ungated"


@pytest.mark.parametrize("tau_s", [20.0, 45.0, 90.0])
def test_the_fitted_asymptote_holds_the_truth_within_its_uncertainty(tau_s: float) -> None:
    hits = 0
    for seed in range(60):
        curve_of = cooling(75.0, tau_s, seed=seed)
        temps = [curve_of(t) for t in range(240)]
        fitted = fit_asymptote([float(t) for t in range(240)], temps)
        assert fitted is not None
        hits += abs(fitted.temp_c - 35.0) <= 2 * fitted.u_c
    assert hits >= 54


def test_a_heating_or_short_curve_has_no_asymptote() -> None:
    times = [float(t) for t in range(60)]
    assert fit_asymptote(times, [30.0 + 0.2 * t for t in times]) is None
    assert fit_asymptote(times[:10], [60.0 - t for t in times[:10]]) is None


def test_slope_is_least_squares_and_needs_three_times() -> None:
    assert fit_slope([0.0, 1.0, 2.0], [1.0, 3.0, 5.0]) == pytest.approx(2.0)
    assert fit_slope([0.0, 1.0], [1.0, 3.0]) is None
    assert fit_slope([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_a_reference_follows_a_slow_drift_and_is_replaced_by_a_jump() -> None:
    settings = LearningSettings()
    near = learn(Reference(35.0, 0.2, 90.0), Reference(35.4, 0.2), settings)
    assert near is not None
    assert near.temp_c == pytest.approx(35.2)
    assert near.power_w == 90.0
    jumped = learn(Reference(35.0, 0.2), Reference(39.0, 0.3), settings)
    assert jumped is not None
    assert jumped.temp_c == 39.0
    assert learn(Reference(35.0, 0.2), Reference(20.0, 5.0), settings) == Reference(35.0, 0.2)
    assert learn(None, None, settings) is None


def test_a_settled_minute_is_its_own_reference() -> None:
    estimate = estimate_reference(readings(lambda _: 38.0, seconds=70))
    assert estimate is not None
    assert estimate.temp_c == 38.0
    assert estimate.power_w is None
    idle = estimate_reference(readings(lambda _: 38.0, seconds=70), is_idle=True)
    assert idle is not None
    assert idle.power_w == 90.0


class CoolingGpu:
    """A clock and a sensor in one: waiting cools it."""

    def __init__(self, temp_c: float, tau_s: float = 45.0) -> None:
        self.temp_c, self.tau_s, self.now_s = temp_c, tau_s, 0.0
        self.cancel_at_s = math.inf
        self.noise = random.Random(3)

    def monotonic_ns(self) -> int:
        return round(self.now_s * 1e9)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.now_s += timeout_s
        self.temp_c = 35.0 + (self.temp_c - 35.0) * math.exp(-timeout_s / self.tau_s)
        if self.now_s >= self.cancel_at_s:
            event.set()
        return event.is_set()

    def latest(self) -> Mapping[str, Reading]:
        return {"g": Reading(self.monotonic_ns(), float(round(self.temp_c + self.noise.gauss(0, 0.3))), None, 0.0)}


def test_the_loop_waits_tells_and_learns_the_reference() -> None:
    gpu, told = CoolingGpu(75.0), []
    outcome = pass_gate(
        COOL, gpu, gpu, threading.Event(), {}, lambda wait, waited_s: told.append((wait.reason, waited_s))
    )
    assert outcome.start_state == "cool"
    assert gpu.temp_c <= 37.5
    assert outcome.references["g"].temp_c == pytest.approx(35.0, abs=1.0)
    assert len(told) == outcome.waited_s
    assert told[0][1] == 0.0


def test_the_loop_ends_at_once_when_cancelled() -> None:
    gpu = CoolingGpu(75.0)
    gpu.cancel_at_s = 12.0
    with pytest.raises(GateCancelled):
        pass_gate(COOL, gpu, gpu, threading.Event(), {})
    assert gpu.now_s == 12.0


def test_a_lost_gpu_ends_the_wait_with_the_meters_own_error() -> None:
    class Lost(CoolingGpu):
        def latest(self) -> Mapping[str, Reading]:
            if self.now_s > 5:
                raise RuntimeError("gpu lost")
            return super().latest()

    gpu = Lost(75.0)
    with pytest.raises(RuntimeError, match="gpu lost"):
        pass_gate(COOL, gpu, gpu, threading.Event(), {})
